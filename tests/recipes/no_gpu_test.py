#!/usr/bin/env python3
"""Where there is no GPU, a build with GPU code and one without do the same: all runs on the CPU, and who insists on a GPU
learns in one message what is missing. GPUs that are there are hidden."""
import pathlib, subprocess, sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import tiny

UNAVAILABLE, USAGE = 69, 64
REASONS = ("this build of weft has no GPU code", "no NVIDIA driver is installed here", "the NVIDIA driver is too old",
           "the NVIDIA driver shows no GPU here", "the NVIDIA driver does not start")
tiny.ENV["CUDA_VISIBLE_DEVICES"] = ""
t = tiny.Tiny()


def names_one_reason(said):
    return sum(said.count(reason) for reason in REASONS) == 1


def refused(code, *arguments, ranks=1):
    done = t.weft(*arguments, ranks=ranks)
    assert done.returncode == code, f"exit code {done.returncode}, expected {code}: {done.stdout}{done.stderr}"
    messages = [line for line in done.stderr.splitlines() if line.startswith(("weft", "error"))]
    assert len(messages) == 1, done.stderr
    return done.stderr


def the_binary_starts():
    done = t.weft("--version")
    assert done.returncode == 0 and done.stdout.startswith("weft "), done.stdout + done.stderr


def auto_trains_on_the_cpu_and_says_why():
    said = t.train("auto", "train.device=auto").stderr
    assert said.count("train.device=auto: the CPU computes, as ") == 1 and names_one_reason(said), said
    assert "(cpu)" in said, said
    t.train("cpu", "train.device=cpu")
    assert t.bits("auto") == t.bits("cpu") and t.metrics("auto") == t.metrics("cpu")


def who_asks_for_the_cpu_hears_nothing_of_gpus():
    said = t.train("quiet", "train.device=cpu").stderr
    assert not any(reason in said for reason in REASONS), said


def insisting_on_a_gpu_is_one_message_that_names_what_is_missing():
    for ranks in (1, 2):
        said = refused(UNAVAILABLE, "train", "run.yaml", "output_dir=gpu", "train.device=cuda", ranks=ranks)
        assert names_one_reason(said) and "train.device=cpu" in said, said
    said = refused(UNAVAILABLE, "generate", "cpu", "--prompt", "red", "--device", "cuda")
    assert names_one_reason(said) and "cpu" in said, said


def what_was_trained_answers():
    done = t.weft("generate", "auto", "--prompt", "red dog", "--max-tokens", 8, "--device", "auto")
    assert done.returncode == 0, done.stderr


def fp16_on_a_cpu_is_refused():
    said = refused(USAGE, "train", "run.yaml", "output_dir=half", "train.device=auto", "train.dtype=fp16")
    assert "fp16 is computed on GPUs only" in said, said


def the_cuda_binary_needs_no_driver_nor_cudnn_to_start():
    needed = subprocess.run(["ldd", tiny.WEFT], text=True, capture_output=True).stdout
    assert "libcuda.so" not in needed and "libcudnn" not in needed, needed


tiny.run([the_binary_starts, auto_trains_on_the_cpu_and_says_why, who_asks_for_the_cpu_hears_nothing_of_gpus,
          insisting_on_a_gpu_is_one_message_that_names_what_is_missing, what_was_trained_answers, fp16_on_a_cpu_is_refused,
          the_cuda_binary_needs_no_driver_nor_cudnn_to_start])
