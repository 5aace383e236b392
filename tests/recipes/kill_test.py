#!/usr/bin/env python3
"""A run that is killed or asked to stop at random moments ends with the bits of one that never was."""
import os, pathlib, random, signal, sys, time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import tiny

KILLS = 10
t = tiny.Tiny()
SETTINGS = ["train.max_steps=100", "checkpoint.every_steps=3", "checkpoint.keep=2"]
t.train("straight", *SETTINGS, ranks=2)


def steps_done(out):
    path = t.dir / out / "metrics.jsonl"
    return path.read_text().count("grad_norm") if path.exists() else 0


def kill_everyone(argument):
    """SIGKILL to mpirun and both ranks (each has a process group of its own), until none is left."""
    def processes():
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if argument in (entry / "cmdline").read_text().split("\0") and (entry / "cwd").resolve() == t.dir.resolve():
                    yield int(entry.name)
            except OSError:
                pass  # gone meanwhile

    found = list(processes())
    while found:
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.02)
        found = [pid for pid in processes() if pathlib.Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"]


def ten_random_kills_change_no_bit():
    rng = random.Random(int(os.environ.get("WEFT_TEST_SEED", "7")))
    kills, folder = 0, 0
    while kills < KILLS:
        out = f"killed{folder}"
        process = t.start(out, *SETTINGS, ranks=2)
        before, until = steps_done(out), rng.randint(0, 4)
        while steps_done(out) < before + until and process.poll() is None:  # some steps on, ...
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.1) if until else rng.uniform(0, 1))  # ... anywhere in a step or a save
        if process.poll() is None:
            kill_everyone(f"output_dir={out}")
            kills += 1
        output = process.communicate()[0]
        if process.returncode == 0:  # the run was faster than the killer: the next kills are of another run
            assert_as_straight(out)
            folder += 1
        else:
            assert process.returncode < 0, output
    t.train(out, *SETTINGS, ranks=2)
    assert_as_straight(out)


def assert_as_straight(out):
    assert t.bits("straight", 100) == t.bits(out, 100)
    assert t.metrics("straight") == t.metrics(out)


def a_run_asked_to_stop_commits_and_goes_on():
    process = t.start("asked", *SETTINGS[:1], "checkpoint.every_steps=0")
    while not (t.dir / "asked" / "metrics.jsonl").exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    output = process.communicate()[0]
    if process.returncode != 0:
        assert process.returncode == 75, (process.returncode, output)
        assert "the checkpoint is committed" in output, output
    t.train("asked", *SETTINGS[:1], "checkpoint.every_steps=0")
    t.train("one_rank", *SETTINGS[:1], "checkpoint.every_steps=0")
    assert t.bits("one_rank", 100) == t.bits("asked", 100)


tiny.run([ten_random_kills_change_no_bit, a_run_asked_to_stop_commits_and_goes_on])
