#!/usr/bin/env python3
"""Ranks on GPUs against one rank, and against themselves. Needs a build with CUDA and NCCL, and two GPUs."""
import json, os, pathlib, shutil, signal, subprocess, sys, time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import tiny

t = tiny.Tiny()
probe = t.weft("train", "run.yaml", "output_dir=probe", "train.device=cuda", ranks=2)
if probe.returncode == 69:
    lines = [line for line in probe.stderr.splitlines() if "error" in line or line.startswith("weft")]
    print("skipped:", (lines or probe.stderr.splitlines() or ["exit code 69"])[0])
    sys.exit(77)
assert probe.returncode == 0, probe.stderr
GPUS = len(subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True).stdout.splitlines()) if shutil.which(
    "nvidia-smi") else 2
WORLDS = [ranks for ranks in (2, 4) if ranks <= GPUS]


def train(out, *overrides, **options):
    return t.train(out, "train.device=cuda", *overrides, **options)


def close(a, b, tolerance):
    for step, (one, other) in enumerate(zip(t.metrics(a), t.metrics(b), strict=True)):
        assert abs(one - other) <= tolerance * abs(one), (step, one, other)


def losses_are_those_of_one_rank_with_the_same_global_batch():
    train("one")
    for ranks in WORLDS:
        said = t.train(f"fp32_{ranks}", "train.device=auto", ranks=ranks).stderr
        assert f"on {ranks} ranks (cuda)" in said, said
        close("one", f"fp32_{ranks}", 1e-5)


def the_same_run_twice_has_the_same_bits():
    cases = dict(fp32=[], sums16=["parallel.reduce_dtype=bf16"], bf16=["train.dtype=bf16"],
                 bf16_sums32=["train.dtype=bf16", "train.gradient_dtype=bf16", "parallel.reduce_dtype=fp32"])
    for ranks in WORLDS:
        for name, overrides in cases.items():
            first, again = f"{name}_{ranks}a", f"{name}_{ranks}b"
            train(first, *overrides, ranks=ranks)
            train(again, *overrides, ranks=ranks)
            assert t.bits(first) == t.bits(again), (name, ranks)
            assert t.metrics(first) == t.metrics(again), (name, ranks)


def where_activations_wait_changes_no_bit():
    train("offload", "train.offload_layers=2", "train.recompute=full", ranks=2)
    assert t.bits("fp32_2a") == t.bits("offload")


def sums_in_bf16_follow_those_in_fp32():
    close("fp32_2", "sums16_2a", 0.01)


def adapters_train_as_on_one_gpu():
    lora = ["recipe=lora", "model.path=one/export/hf", "model.config=", "model.tokenizer="]
    t.train("one", "train.device=cuda", "export.formats=[hf]", "train.max_steps=21")
    train("lora_1", *lora)
    train("lora_2", *lora, ranks=2)
    close("lora_1", "lora_2", 1e-5)


def a_stopped_run_goes_on_bit_for_bit():
    train("half", "checkpoint.every_steps=7", ranks=2)
    for folder in ("step_000020", "step_000014"):
        (t.dir / "half" / folder).rename(t.dir / "half" / (folder + ".away"))
    train("half", "checkpoint.every_steps=7", ranks=2)
    assert t.bits("fp32_2") == t.bits("half")


def evaluation_is_that_of_one_rank():
    losses = []
    for ranks in (1, 2):
        done = t.weft("eval", "fp32_2", "data.jsonl", "--dtype", "fp32", "--device", "cuda", "--json", ranks=ranks)
        assert done.returncode == 0, done.stderr
        losses.append(json.loads(done.stdout)["loss"])
    assert abs(losses[0] - losses[1]) <= 1e-5 * losses[0], losses


def ranks_of(out):
    """Process ids of a run's ranks, by rank."""
    found = {}
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if f"output_dir={out}" in (entry / "cmdline").read_text().split("\0"):
                variables = dict(v.split("=", 1) for v in (entry / "environ").read_text().split("\0") if "=" in v)
                if "OMPI_COMM_WORLD_RANK" in variables:
                    found[int(variables["OMPI_COMM_WORLD_RANK"])] = int(entry.name)
        except OSError:
            pass  # gone meanwhile
    return found


def a_killed_rank_ends_the_run_and_is_named():
    run = t.start("killed", "train.device=cuda", "train.max_steps=1000000", ranks=2)
    metrics = t.dir / "killed" / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text().count("\n") >= 5):
        assert run.poll() is None, run.communicate()[0]
        time.sleep(0.05)
    os.kill(ranks_of("killed")[1], signal.SIGKILL)
    output = run.communicate(timeout=60)[0]
    print(output, flush=True)
    assert run.returncode != 0 and "rank 1" in output and "signal 9" in output, run.returncode


tiny.run([losses_are_those_of_one_rank_with_the_same_global_batch, the_same_run_twice_has_the_same_bits,
          where_activations_wait_changes_no_bit, sums_in_bf16_follow_those_in_fp32, adapters_train_as_on_one_gpu,
          a_stopped_run_goes_on_bit_for_bit, evaluation_is_that_of_one_rank, a_killed_rank_ends_the_run_and_is_named])
