#!/usr/bin/env python3
"""A run that is killed or asked to stop at random moments ends with the bits of one that never was."""
import os, pathlib, random, signal, sys, time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import tiny

KILLS = 10
t = tiny.Tiny()
SETTINGS = ["train.max_steps=40", "checkpoint.every_steps=3", "checkpoint.keep=2"]
begin = time.time()
t.train("straight", *SETTINGS, ranks=2)
DURATION = time.time() - begin


def ten_random_kills_change_no_bit():
    rng = random.Random(int(os.environ.get("WEFT_TEST_SEED", "7")))
    kills = 0
    for attempt in range(200):
        process = t.start("killed", *SETTINGS, ranks=2)
        if kills < KILLS:
            time.sleep(rng.uniform(0.2, 0.8) * DURATION)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # mpirun and both ranks at once
                kills += 1
            process.communicate()
        else:
            output = process.communicate()[0]
            assert process.returncode == 0, output
        done = t.dir / "killed" / "step_000040"
        if done.exists() and kills < KILLS:  # it got to the end before the last kill: take the end away
            done.rename(t.dir / "killed" / f"away{attempt}")
        elif done.exists():
            break
    assert kills == KILLS
    assert t.bits("straight", 40) == t.bits("killed", 40)
    assert t.metrics("straight") == t.metrics("killed")


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
    assert t.bits("one_rank", 40) == t.bits("asked", 40)


tiny.run([ten_random_kills_change_no_bit, a_run_asked_to_stop_commits_and_goes_on])
