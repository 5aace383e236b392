#!/usr/bin/env python3
"""A run on a GPU against the same run on the CPU, and against itself. Needs a build with CUDA and a GPU."""
import json, pathlib, sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import tiny

t = tiny.Tiny()
tiny.write_even_data(t.dir / "even.jsonl")
tiny.write_model(t.dir / "wide", hidden_size=256, intermediate_size=1024, num_hidden_layers=4)
EVEN = ["data.train=even.jsonl", "data.seq_len=32"]  # every micro-batch has the same shape
WIDE = ["data.train=even.jsonl", "model.config=wide/config.json", "train.micro_batch=64", "train.global_batch=64", "train.max_steps=2",
        "train.warmup=1", "train.recompute=none"]
LONG = ["train.dtype=bf16", "train.micro_batch=8", "train.global_batch=8"]  # rows enough for cuDNN's attention
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


def where_activations_wait_changes_no_bit():
    for dtype, same in (("fp32", "gpu"), ("bf16", "bf16a")):
        for recompute in ("none", "selective", "full"):
            for layers in (1, 2, 3):  # of three
                out = f"offload_{dtype}_{recompute}_{layers}"
                said = train(out, "train.dtype=" + dtype, "train.recompute=" + recompute, f"train.offload_layers={layers}").stderr
                assert said.count(f"activations of {layers} of 3 blocks wait in ") == 1, said
                assert t.bits(same) == t.bits(out) and t.metrics(same) == t.metrics(out), out


def activations_that_wait_in_host_memory_leave_the_gpu():
    tiny.write_model(t.dir / "deep", hidden_size=256, intermediate_size=1024, num_hidden_layers=12)
    peaks = {}
    for layers in (0, 4, 8):
        out = f"deep_{layers}"
        train(out, *WIDE, "model.config=deep/config.json", "train.dtype=bf16", f"train.offload_layers={layers}")
        lines = map(json.loads, (t.dir / out / "metrics.jsonl").read_text().splitlines())
        peaks[layers] = [line["memory_peak_bytes"]["activation"] for line in lines if "memory_peak_bytes" in line][-1]
        assert t.bits("deep_0", 2) == t.bits(out, 2), out
    assert peaks[4] < 0.8 * peaks[0] and peaks[8] < 0.55 * peaks[0], peaks


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


def adapters_in_16_bits_follow_those_in_fp32():
    wide = [*LORA, "train.micro_batch=8", "train.global_batch=8"]  # tokens enough for what GPUs do in 16 bits alone
    for name, more in dict(plain=[], uneven=["lora.targets=[q_proj, up_proj, down_proj]"], front=["lora.targets=[gate_proj, up_proj]"],
                           dropout=["lora.dropout=0.1"], dora=["lora.dora=true"]).items():
        for dtype in ("fp32", "bf16", "fp16"):
            train(f"{name}_{dtype}", *wide, *more, "train.dtype=" + dtype)
        for dtype in ("bf16", "fp16"):
            close(f"{name}_fp32", f"{name}_{dtype}", 0.003)


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


def trainer_state(out, step=20):
    return json.loads((t.dir / out / f"step_{step:06d}" / "manifest.json").read_text())["trainer"]


def fp16_follows_fp32_and_keeps_its_loss_scale():
    train("fp16", "train.dtype=fp16")
    close("gpu", "fp16", 0.02)
    assert trainer_state("fp16")["loss_scale"] >= 4096, trainer_state("fp16")


def a_loss_scale_falls_and_rises_and_a_resumed_run_knows_it():
    more = ["train.dtype=fp16", "train.loss_scale=1e9", "train.scale_window=3", "train.max_bad_steps=20",
            "train.max_steps=40", "checkpoint.every_steps=10", "checkpoint.keep=10"]
    said = train("scaled", *more).stderr
    assert "is halved" in said, said
    state, bits = trainer_state("scaled", 40), t.bits("scaled", 40)
    assert state["skipped"] > 0 and state["updates"] + state["skipped"] == 40 and state["loss_scale"] < 1e9, state
    for step in (40, 30, 20):
        (t.dir / "scaled" / f"step_{step:06d}").rename(t.dir / "scaled" / f"step_{step:06d}.away")
    train("scaled", *more)
    assert t.bits("scaled", 40) == bits
    assert {k: v for k, v in trainer_state("scaled", 40).items() if k != "seconds"} == \
        {k: v for k, v in state.items() if k != "seconds"}


def replayed_graphs_give_the_bits_of_launches():
    for data in (["data.train=data.jsonl"], EVEN):
        for dtype in ("fp32", "bf16"):
            for graphs in ("on", "off"):
                train(f"graphs_{graphs}_{dtype}_{data[0][11:15]}", "train.graphs=" + graphs, "train.dtype=" + dtype, *data)
            one, other = (f"graphs_{graphs}_{dtype}_{data[0][11:15]}" for graphs in ("on", "off"))
            assert t.bits(one) == t.bits(other) and t.metrics(one) == t.metrics(other), one


def bf16_trains_without_masters_and_with_small_states():
    for name, more in dict(masterless=["train.master_weights=none"], small=["train.optimizer_dtype=bf16"],
                           both=["train.master_weights=none", "train.optimizer_dtype=bf16"]).items():
        train(name, "train.dtype=bf16", *more)
        losses = t.metrics(name)
        assert losses[-1] < 0.85 * losses[0], (name, losses)
        assert abs(losses[-1] - t.metrics("gpu")[-1]) < 0.05 * losses[-1], (name, losses)


def after_the_second_step_nothing_is_asked_of_the_driver():
    for graphs in ("off", "on"):
        said = train("steady_" + graphs, "train.graphs=" + graphs, "train.dtype=bf16", "log.level=debug", *EVEN).stderr
        assert "requests to the driver in the first two steps, 0 in the others" in said, said
    said = train("steady_offload", "train.offload_layers=2", "train.dtype=bf16", "log.level=debug", *EVEN).stderr
    assert "requests to the driver in the first two steps, 0 in the others" in said, said


def out_of_memory_names_the_request_the_table_and_what_to_change():
    said = train("poor", "train.memory_limit=200MiB", *WIDE, expect=69).stderr
    for words in ("out of memory on cuda:0 within train.memory_limit", "MiB asked for (", "activation ", "optimizer ",
                  "train.micro_batch=32 saves about", "train.recompute=full saves about", "train.offload_layers=2 saves about",
                  "recipe=lora saves about"):
        assert said.count(words) == 1, said


def a_run_stays_below_a_limit_that_is_enough():
    train("free", *WIDE)
    peaks = [json.loads(line)["memory_peak_bytes"] for line in (t.dir / "free" / "metrics.jsonl").read_text().splitlines()
             if "memory_peak_bytes" in line]
    limit = sum(peaks[-1].values()) * 3 // 2 >> 20
    train("limited", f"train.memory_limit={limit}MiB", *WIDE)
    assert t.bits("limited", 2) == t.bits("free", 2)


def without_cudnn_training_goes_on_with_one_warning():
    said = train("with_cudnn", *LONG).stderr
    if "attention: cuDNN" not in said:
        return print("     no cuDNN in this build or on this machine:", said)
    (t.dir / "hidden").mkdir()
    (t.dir / "hidden" / "libcudnn.so.9").write_text("this is no library, and the search for one ends here\n" * 10)
    paths = tiny.ENV.get("LD_LIBRARY_PATH")
    tiny.ENV["LD_LIBRARY_PATH"] = str(t.dir / "hidden") + (":" + paths if paths else "")
    try:
        said = train("without_cudnn", *LONG).stderr
    finally:
        del tiny.ENV["LD_LIBRARY_PATH"]
        if paths:
            tiny.ENV["LD_LIBRARY_PATH"] = paths
    assert said.count("attention: no cuDNN here") == 1 and said.count("attention: own kernel") == 1, said
    close("with_cudnn", "without_cudnn", 0.02)


def a_head_size_that_cudnn_refuses_is_our_own_kernels_and_said_once():
    for head_dim in (20, 136, 288):
        tiny.write_model(t.dir / f"heads{head_dim}", head_dim=head_dim)
        model = f"model.config=heads{head_dim}/config.json"
        t.train(f"heads{head_dim}_cpu", model, "train.max_steps=8", "train.micro_batch=8", "train.global_batch=8")
        said = train(f"heads{head_dim}_gpu", *LONG, model, "train.max_steps=8").stderr
        assert said.count("attention: ") == 1 and f"head_dim {head_dim}" in said and "own kernel" in said, said
        close(f"heads{head_dim}_cpu", f"heads{head_dim}_gpu", 0.03)


def two_ranks_on_one_gpu_are_an_error_that_names_them():
    tiny.ENV["CUDA_VISIBLE_DEVICES"] = "0"
    for device in ("cuda", "auto"):
        said = t.train("two", "train.device=" + device, ranks=2, expect=69).stderr
        assert said.count("ranks 0 and 1 would share the GPU") == 1, said
    del tiny.ENV["CUDA_VISIBLE_DEVICES"]


tiny.run([fp32_losses_are_those_of_the_cpu, the_same_run_twice_has_the_same_bits, bf16_follows_fp32,
          what_is_recomputed_changes_no_bit, where_activations_wait_changes_no_bit,
          activations_that_wait_in_host_memory_leave_the_gpu, a_stopped_run_goes_on_bit_for_bit, a_run_moves_from_the_gpu_to_the_cpu,
          adapters_train_as_on_the_cpu, adapters_in_16_bits_follow_those_in_fp32, evaluation_and_answers_are_those_of_the_cpu,
          algorithms_are_timed_once_and_stored_with_the_run, a_damaged_algorithm_cache_is_named_and_made_anew,
          a_resumed_run_uses_its_own_table_whatever_the_cache_says, without_timing_nothing_is_stored, tf32_follows_fp32,
          fp16_follows_fp32_and_keeps_its_loss_scale, a_loss_scale_falls_and_rises_and_a_resumed_run_knows_it,
          replayed_graphs_give_the_bits_of_launches, bf16_trains_without_masters_and_with_small_states,
          after_the_second_step_nothing_is_asked_of_the_driver,
          out_of_memory_names_the_request_the_table_and_what_to_change, a_run_stays_below_a_limit_that_is_enough,
          without_cudnn_training_goes_on_with_one_warning,
          a_head_size_that_cudnn_refuses_is_our_own_kernels_and_said_once,
          two_ranks_on_one_gpu_are_an_error_that_names_them])
