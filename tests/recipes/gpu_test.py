#!/usr/bin/env python3
"""A run on a GPU against the same run on the CPU, and against itself. Needs a build with CUDA and a GPU."""
import json, pathlib, sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import tiny

t = tiny.Tiny()
probe = t.weft("train", "run.yaml", "output_dir=probe", "train.device=cuda")
if probe.returncode == 69:
    print("skipped:", probe.stderr.strip().splitlines()[-1])
    sys.exit(77)
LORA = ["recipe=lora", "model.path=base/export/hf", "model.config=", "model.tokenizer="]


def train(out, *overrides, **options):
    return t.train(out, "train.device=cuda", *overrides, **options)


def close(a, b, tolerance):
    for step, (one, other) in enumerate(zip(t.metrics(a), t.metrics(b), strict=True)):
        assert abs(one - other) <= tolerance * abs(one), (step, one, other)


def fp32_losses_are_those_of_the_cpu():
    t.train("cpu", "train.device=cpu")
    assert "(cuda)" in train("gpu").stderr
    close("cpu", "gpu", 1e-4)


def the_same_run_twice_has_the_same_bits():
    for dtype in ("fp32", "bf16"):
        train(dtype + "a", "train.dtype=" + dtype)
        train(dtype + "b", "train.dtype=" + dtype)
        assert t.bits(dtype + "a") == t.bits(dtype + "b"), dtype
        assert t.metrics(dtype + "a") == t.metrics(dtype + "b"), dtype


def bf16_follows_fp32():
    close("gpu", "bf16a", 0.02)


def what_is_recomputed_changes_no_bit():
    for recompute in ("none", "full"):
        train(recompute, "train.recompute=" + recompute)
        assert t.bits("gpu") == t.bits(recompute), recompute


def a_stopped_run_goes_on_bit_for_bit():
    train("half", "checkpoint.every_steps=7")
    for folder in ("step_000020", "step_000014"):
        (t.dir / "half" / folder).rename(t.dir / "half" / (folder + ".away"))
    train("half", "checkpoint.every_steps=7")
    assert t.bits("gpu") == t.bits("half")


def a_run_moves_from_the_gpu_to_the_cpu():
    train("moved", "checkpoint.every_steps=10")
    (t.dir / "moved" / "step_000020").rename(t.dir / "moved" / "step_000020.away")
    t.train("moved", "checkpoint.every_steps=10", "train.device=cpu")
    close("cpu", "moved", 1e-4)


def adapters_train_as_on_the_cpu():
    t.train("base", "train.device=cpu", "export.formats=[hf]")
    for name, more in dict(lora=["lora.dropout=0.1"], rslora=["lora.rslora=true"], dora=["lora.dora=true"]).items():
        t.train(name + "_cpu", "train.device=cpu", *LORA, *more)
        train(name + "_gpu", *LORA, *more)
        close(name + "_cpu", name + "_gpu", 1e-4)


def evaluation_and_answers_are_those_of_the_cpu():
    said, figures = set(), []
    for device in ("cpu", "cuda"):
        done = t.weft("generate", "base", "--prompt", "red dog", "--max-tokens", 24, "--dtype", "fp32", "--device", device)
        assert done.returncode == 0, done.stderr
        said.add(done.stdout)
        done = t.weft("eval", "base", "data.jsonl", "--dtype", "fp32", "--device", device, "--json")
        assert done.returncode == 0, done.stderr
        figures.append(json.loads(done.stdout))
    assert len(said) == 1, said
    assert abs(figures[0]["loss"] - figures[1]["loss"]) <= 1e-5 * figures[0]["loss"], figures


def algorithms_are_timed_once_and_stored_with_the_run():
    cache = "train.algorithm_cache=cache"
    assert "timed the algorithms" in train("timed", cache).stderr
    table = (t.dir / "timed" / "product_algorithms.txt").read_text()
    assert table.startswith("weft product algorithms 1\ngpu ") and len(table.splitlines()) > 10, table
    [kept] = (t.dir / "cache").iterdir()
    assert kept.read_text() == table
    assert "timed the algorithms" not in train("again", cache).stderr
    assert t.bits("timed") == t.bits("again")
    close("cpu", "timed", 1e-4)


def a_damaged_algorithm_cache_is_named_and_made_anew():
    [kept] = (t.dir / "cache").iterdir()
    for damaged in (b"", b"nonsense", kept.read_bytes()[:-100]):
        kept.write_bytes(damaged)
        said = train(f"damaged{len(damaged)}", "train.algorithm_cache=cache").stderr
        assert said.count("cannot be used") == 1 and str(kept.name) in said, said
        assert "timed the algorithms" in said and len(kept.read_text().splitlines()) > 10, said


def a_resumed_run_uses_its_own_table_whatever_the_cache_says():
    cache = "train.algorithm_cache=cache2"
    train("own", cache, "checkpoint.every_steps=7")
    whole = t.bits("own")
    for folder in ("step_000020", "step_000014"):
        (t.dir / "own" / folder).rename(t.dir / "own" / (folder + ".away"))
    for kept in (t.dir / "cache2").iterdir():
        kept.unlink()
    assert "timed the algorithms" not in train("own", cache, "checkpoint.every_steps=7").stderr
    assert t.bits("own") == whole


def without_timing_nothing_is_stored():
    assert "timed" not in train("untimed", "train.algorithm_cache=none").stderr
    assert not (t.dir / "untimed" / "product_algorithms.txt").exists()
    close("cpu", "untimed", 1e-4)


def tf32_follows_fp32():
    train("tf32", "train.tf32=true")
    close("gpu", "tf32", 0.02)


def two_ranks_on_one_gpu_are_an_error_that_names_them():
    tiny.ENV["CUDA_VISIBLE_DEVICES"] = "0"
    for device in ("cuda", "auto"):
        said = t.train("two", "train.device=" + device, ranks=2, expect=69).stderr
        assert said.count("ranks 0 and 1 would share the GPU") == 1, said
    del tiny.ENV["CUDA_VISIBLE_DEVICES"]


tiny.run([fp32_losses_are_those_of_the_cpu, the_same_run_twice_has_the_same_bits, bf16_follows_fp32,
          what_is_recomputed_changes_no_bit, a_stopped_run_goes_on_bit_for_bit, a_run_moves_from_the_gpu_to_the_cpu,
          adapters_train_as_on_the_cpu, evaluation_and_answers_are_those_of_the_cpu,
          algorithms_are_timed_once_and_stored_with_the_run, a_damaged_algorithm_cache_is_named_and_made_anew,
          a_resumed_run_uses_its_own_table_whatever_the_cache_says, without_timing_nothing_is_stored, tf32_follows_fp32,
          two_ranks_on_one_gpu_are_an_error_that_names_them])
