#!/usr/bin/env python3
"""The laws of a run: what must be equal to the bit, and what to rounding (docs/architecture.md)."""
import os, pathlib, sys, tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import tiny

t = tiny.Tiny()
t.train("once")


def the_loss_falls():
    losses = t.metrics("once")
    assert len(losses) == 20 and losses[-1] < 0.8 * losses[0], losses


def the_same_run_twice_has_the_same_bits():
    t.train("twice")
    assert t.metrics("once") == t.metrics("twice")
    assert t.bits("once") == t.bits("twice") and len(t.bits("once")) > 30


def what_is_recomputed_changes_no_bit():
    for recompute in ("none", "full"):
        t.train(recompute, f"train.recompute={recompute}")
        assert t.bits("once") == t.bits(recompute), recompute


def where_activations_wait_changes_no_bit():
    for recompute in ("none", "selective", "full"):
        for layers in (1, 3):  # of three
            out = f"offload_{recompute}_{layers}"
            said = t.train(out, f"train.recompute={recompute}", f"train.offload_layers={layers}").stderr
            assert said.count(f"activations of {layers} of 3 blocks wait in ") == 1, said
            assert t.bits("once") == t.bits(out) and t.metrics("once") == t.metrics(out), out


def adapters_with_dropout_on_two_ranks_do_not_notice_it_either():
    t.train("base", "train.max_steps=3", "export.formats=[hf]")
    lora = ["recipe=lora", "lora.dropout=0.1", "model.path=base/export/hf", "model.config=", "model.tokenizer="]
    t.train("lora", *lora, ranks=2)
    t.train("lora_offload", *lora, "train.offload_layers=2", ranks=2)
    assert t.bits("lora") == t.bits("lora_offload")


def losses_of_twenty_steps_do_not_depend_on_the_number_of_ranks():
    for ranks in (2, 4):
        done = t.train(f"ranks{ranks}", ranks=ranks)
        assert f"on {ranks} ranks" in done.stderr, done.stderr  # they really took part
        for step, (one, many) in enumerate(zip(t.metrics("once"), t.metrics(f"ranks{ranks}"))):
            assert abs(one - many) <= 1e-5 * abs(one), (ranks, step, one, many)


def two_ranks_twice_have_the_same_bits():
    t.train("ranks2b", ranks=2)
    assert t.bits("ranks2") == t.bits("ranks2b")


def a_run_ends_with_no_message_under_way():
    tiny.write_model(t.dir / "wide", vocab_size=4096)  # the last update's values take longer to send than to save
    for _ in range(5):
        with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as out:
            t.train(out, "model.config=wide/config.json", "train.max_steps=6", "checkpoint.every_steps=1", ranks=2)


def micro_batches_change_only_rounding():
    t.train("micro", "train.micro_batch=4")
    for one, many in zip(t.metrics("once"), t.metrics("micro")):
        assert abs(one - many) <= 1e-5 * abs(one), (one, many)


def a_stopped_run_goes_on_bit_for_bit():
    t.train("half", "checkpoint.every_steps=7", "train.max_steps=20")
    assert t.bits("once") == t.bits("half")
    for folder in ("step_000020", "step_000014"):
        (t.dir / "half" / folder).rename(t.dir / "half" / (folder + ".away"))
    t.train("half", "checkpoint.every_steps=7")
    assert t.bits("once") == t.bits("half")
    assert t.metrics("once") == t.metrics("half")


def every_checkpoint_stays_where_keep_is_0():
    t.train("kept", "checkpoint.every_steps=4", "checkpoint.keep=0")
    assert len(list((t.dir / "kept").glob("step_*"))) == 5


def a_checkpoint_loads_on_another_number_of_ranks():
    t.train("moved", "checkpoint.every_steps=10", ranks=2)
    (t.dir / "moved" / "step_000020").rename(t.dir / "moved" / "step_000020.away")
    t.train("moved", "checkpoint.every_steps=10", ranks=4)
    for one, many in zip(t.metrics("once"), t.metrics("moved")):
        assert abs(one - many) <= 1e-5 * abs(one), (one, many)


def bf16_follows_fp32():
    t.train("bf16", "train.dtype=bf16")
    for one, other in zip(t.metrics("once"), t.metrics("bf16")):
        assert abs(one - other) <= 0.02 * abs(one), (one, other)


def a_finished_run_says_so():
    assert "all is done" in t.train("once").stderr


tiny.run([the_loss_falls, the_same_run_twice_has_the_same_bits, what_is_recomputed_changes_no_bit,
          where_activations_wait_changes_no_bit, adapters_with_dropout_on_two_ranks_do_not_notice_it_either,
          losses_of_twenty_steps_do_not_depend_on_the_number_of_ranks, two_ranks_twice_have_the_same_bits,
          a_run_ends_with_no_message_under_way, micro_batches_change_only_rounding, a_stopped_run_goes_on_bit_for_bit,
          every_checkpoint_stays_where_keep_is_0, a_checkpoint_loads_on_another_number_of_ranks, bf16_follows_fp32,
          a_finished_run_says_so])
