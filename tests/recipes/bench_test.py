#!/usr/bin/env python3
"""weft bench and log.trace on a tiny model: figures that make sense, files that a viewer reads."""
import json, pathlib, sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import tiny

t = tiny.Tiny()
TINY = ("model.config=model/config.json", "data.seq_len=64", "train.micro_batch=2", "train.dtype=fp32", "train.threads=1",
        "--steps", "4", "--warmup", "2")


def bench(*arguments, ranks=1):
    done = t.weft("bench", *TINY, *arguments, "--json", ranks=ranks)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def spans(path, rank=0):
    events = json.loads((t.dir / path).read_text())["traceEvents"]
    assert all(e["pid"] == rank for e in events)
    return [e for e in events if e["ph"] == "X"]


def inside(inner, outer):
    return outer["ts"] <= inner["ts"] + 1e-3 and inner["ts"] + inner["dur"] <= outer["ts"] + outer["dur"] + 1e-3


def the_figures_agree_with_each_other():
    r = bench("recipe=sft")
    assert r["case"] == "model sft seq 64 micro-batch 2 recompute selective f32 x1", r["case"]
    assert 0 < r["share_of_floor"] < 1.5, r
    near = lambda a, b: abs(a - b) <= 1e-6 * abs(b)
    assert near(r["share_of_floor"], r["tokens_per_second"] / r["floor_tokens_per_second"])
    assert near(r["tokens_per_second"], 2 * 64 / (r["step_ms"] / 1e3))
    parts = r["products"] + r["attention"]
    assert near(sum(p["ms"] * p["calls"] for p in r["products"]), r["floor_products_ms"])
    assert all(p["ms"] > 0 and p["tflops"] > 0 and p["calls"] > 0 for p in parts), parts
    assert [p["name"] for p in parts if p["name"].startswith("down")] == ["down forward", "down dX", "down dW"]
    # 6 (N + V h) + 6 L h s: 3 layers of 2 (32 * 32) + 2 (32 * 16) + 3 (32 * 56) + 2 * 32, the last norm, the vocabulary of 272
    flops = 6 * (3 * (2 * 1024 + 2 * 512 + 3 * 32 * 56 + 64) + 32 + 272 * 32) + 6 * 3 * 32 * 64
    assert near(r["tflops"], flops * r["tokens_per_second"] / 1e12), r["tflops"]
    assert "mfu" not in r  # nobody knows a CPU's peak
    assert 0 < r["peak_gib"] <= r["peak_gib_with_start"] and 0 < r["first_step_seconds"] < 60
    assert 0 < r["fastest_ms"] <= r["step_ms"] <= r["slowest_ms"]


def a_frozen_base_has_no_weight_gradients():
    r = bench("recipe=lora", "train.recompute=full", "train.global_batch=4")
    calls = {p["name"]: p["calls"] for p in r["products"] + r["attention"]}
    assert not any("dW" in name for name in calls), calls
    assert calls["qkv forward"] == calls["attention forward"] == 2 * calls["o dX"] == 12, calls
    assert calls["qkv dX"] == 4, calls  # of 3 blocks, 2 micro-batches: not of the first block's input
    assert calls["down forward"] == 6, calls  # what is computed again ends before it


def an_offloaded_block_is_not_computed_again():
    r = bench("recipe=sft", "train.recompute=full", "train.offload_layers=2")
    assert r["case"] == "model sft seq 64 micro-batch 2 recompute full offload of 2 blocks f32 x1", r["case"]
    calls = {p["name"]: p["calls"] for p in r["products"] + r["attention"]}
    assert calls["qkv forward"] == calls["attention forward"] == 4 and calls["qkv dX"] == 3, calls


def a_part_may_be_left_out():
    assert "floor_ms" not in bench("--no-floor") and "step_ms" not in bench("--no-step")


def ranks_measure_their_links():
    r = bench("--no-floor", ranks=2)
    assert len(r["links"]) == 3 and all(v > 0 for link in r["links"] for v in link.values()), r
    assert r["case"].endswith("x2")


def the_table_is_for_people():
    text = t.weft("bench", *TINY, "recipe=sft").stdout
    for word in ("floor of a step", "gate+up dW", "of the floor", "peak memory", "tokens/s"):
        assert word in text, text


def nothing_is_left_behind():
    assert not (t.dir / "runs").exists()


def bad_arguments_are_named():
    for arguments, code, word in ((["data.seq_len=100000"], 64, "at most 256"), (["--no-step", "--no-floor"], 64, "nothing to do"),
                                  (["train.global_batch=3"], 64, "global_batch"), (["model.config=none.json"], 66, "none.json")):
        done = t.weft("bench", *TINY, *arguments)
        assert done.returncode == code and word in done.stderr, (arguments, done.returncode, done.stderr)


def a_run_says_its_speed():
    t.train("run", "train.max_steps=5", "log.progress=plain")
    for tflops, per_second in zip(t.metrics("run", "tflops"), t.metrics("run", "flops_per_second")):
        assert tflops > 0 and abs(tflops * 1e12 - per_second) <= 1e-6 * per_second


def a_trace_shows_the_steps_of_a_run():
    t.train("traced", "train.max_steps=8", "log.trace=trace.json", "log.trace_after=3", "log.trace_steps=2",
            "checkpoint.every_steps=5", "train.recompute=full")
    events = spans("trace.json")
    steps = [e for e in events if e["name"].startswith("step")]
    assert [e["name"] for e in steps] == ["step 4", "step 5"]
    names = {e["name"] for e in events if inside(e, steps[1])}
    assert names >= {"data", "forward", "head", "backward", "layer 0", "layer 2", "attention", "recompute", "optimizer",
                     "checkpoint"}, names
    for layer in (e for e in events if e["name"].startswith("layer")):
        assert any(inside(layer, e) for e in events if e["name"] in ("forward", "backward"))
    assert t.metrics("traced")[:5] == t.metrics("run")  # tracing and recomputing change no bit


def a_trace_shows_what_waits_in_host_memory():
    t.train("traced3", "train.max_steps=4", "log.trace=offload.json", "log.trace_after=1", "log.trace_steps=1",
            "train.offload_layers=2", "train.global_batch=1")
    copies = [e["name"] for e in spans("offload.json") if e["tid"] == 3]
    assert copies == ["offload layer 0", "offload layer 1", "fetch layer 1", "fetch layer 0"], copies


def each_rank_writes_a_trace_with_its_sums():
    t.train("traced2", "train.max_steps=4", "log.trace=ranks.json", "log.trace_after=1", "log.trace_steps=2", ranks=2)
    for rank, path in enumerate(("ranks.json", "ranks.rank1.json")):
        side = [e for e in spans(path, rank) if e["tid"] == 2]
        assert {"reduce lm_head", "reduce model.layers.0", "publish model.layers.0"} <= {e["name"] for e in side}
        for one, other in zip(side, side[1:]):
            assert one["ts"] + one["dur"] <= other["ts"] + 1e-3


tiny.run([the_figures_agree_with_each_other, a_frozen_base_has_no_weight_gradients,
          an_offloaded_block_is_not_computed_again, a_part_may_be_left_out,
          ranks_measure_their_links, the_table_is_for_people, nothing_is_left_behind, bad_arguments_are_named,
          a_run_says_its_speed, a_trace_shows_the_steps_of_a_run,
          a_trace_shows_what_waits_in_host_memory, each_rank_writes_a_trace_with_its_sums])
