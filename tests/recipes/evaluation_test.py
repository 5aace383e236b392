#!/usr/bin/env python3
"""Held-out figures do not depend on ranks, and accuracy is of the answers only, whatever the loss counts."""
import json, pathlib, random, sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import tiny

t = tiny.Tiny()
SETTINGS = ["train.max_steps=20", "train.eval_every=10", "train.lr=1e-2"]


def write_records(name, count, record, seed):
    rng = random.Random(seed)
    with open(t.dir / name, "w") as out:
        for _ in range(count):
            out.write(json.dumps(record(rng.choice(["red", "blue"]), rng.randint(1, 3))) + "\n")


def labelled(word, times):
    return dict(text=" ".join([word] * times), label=word)


def messages(word, times):
    turns = [dict(role="user", content=" ".join([word] * times)), dict(role="assistant", content=word)]
    return dict(messages=turns * 2)


write_records("labelled.jsonl", 80, labelled, 1)
write_records("labelled_held.jsonl", 31, labelled, 2)  # no multiple of 2 ranks
write_records("messages.jsonl", 80, messages, 3)
write_records("messages_held.jsonl", 31, messages, 4)


def trained(kind, train_on, ranks):
    out = f"{kind}_{train_on}_{ranks}"
    if not (t.dir / out).exists():
        t.train(out, *SETTINGS, f"data.train={kind}.jsonl", f"data.eval={kind}_held.jsonl", f"data.train_on={train_on}", ranks=ranks)
    return out


def evaluated(run, kind, *options, ranks=1):
    done = t.weft("eval", run, f"{kind}_held.jsonl", "--json", *options, ranks=ranks)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def held_out(run):
    lines = map(json.loads, (t.dir / run / "metrics.jsonl").read_text().splitlines())
    return [line["evaluation"] for line in lines if "evaluation" in line]


def assert_same(one, other):
    assert one.keys() == other.keys(), (one, other)
    for key, value in one.items():
        assert abs(value - other[key]) <= 1e-5 * abs(value), (key, one, other)


def figures_during_training_do_not_depend_on_ranks():
    for kind in ("labelled", "messages"):
        one, two = (held_out(trained(kind, "all", ranks)) for ranks in (1, 2))
        assert len(one) == len(two) == 2
        for a, b in zip(one, two):
            assert_same(a, b)


def eval_repeats_the_last_figures_of_training_on_any_number_of_ranks():
    for kind in ("labelled", "messages"):
        run = trained(kind, "all", 1)  # eval takes train_on from the run
        for ranks in (1, 2):
            assert_same(held_out(run)[-1], evaluated(run, kind, ranks=ranks))


def train_on_all_scores_every_token_but_the_first():
    for kind in ("labelled", "messages"):
        stats = t.weft("data", f"{kind}_held.jsonl", "--tokenizer", "model", "--stats", "--json")
        tokens = json.loads(stats.stdout)["statistics"]["tokens"]
        assert evaluated(trained(kind, "all", 1), kind)["tokens"] == tokens - 31


def accuracy_is_of_answers_whatever_the_loss_counts():
    run = trained("labelled", "assistant", 1)  # has learnt neither prompts nor what follows an answer's end
    answers, all_tokens = (evaluated(run, "labelled", "--train-on", on) for on in ("assistant", "all"))
    assert answers["accuracy"] > 0.9 and all_tokens["loss"] > 2 * answers["loss"], (answers, all_tokens)
    for key in ("accuracy", "correct", "labelled"):
        assert answers[key] == all_tokens[key], (key, answers, all_tokens)
    assert "accuracy" not in evaluated(trained("messages", "all", 1), "messages")


tiny.run([figures_during_training_do_not_depend_on_ranks,
          eval_repeats_the_last_figures_of_training_on_any_number_of_ranks,
          train_on_all_scores_every_token_but_the_first, accuracy_is_of_answers_whatever_the_loss_counts])
