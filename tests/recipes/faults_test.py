#!/usr/bin/env python3
"""Faults in the middle of a run - SIGINT in a save, one rank without disk, damaged checkpoints - change no bit of its end."""
import os, pathlib, random, resource, shutil, signal, sys, time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import tiny

BAD_DATA, IO, TRY_AGAIN = 65, 74, 75
INTERRUPTS, MOST_TRIES = 3, 100
t = tiny.Tiny()
tiny.write_model(t.dir / "model", vocab_size=4096)  # saves that last long enough to be caught in
SETTINGS = ["train.schedule=constant", "checkpoint.every_steps=1", "checkpoint.keep=2"]
LONG = [*SETTINGS, "train.max_steps=20000"]  # ends all the same where no fault ends it


def checkpoints(out):
    """The committed steps, and the one that is being written (None: none is)."""
    folder = t.dir / out
    names = [p.name[5:] for p in folder.glob("step_*")] if folder.exists() else []
    steps = sorted(int(n) for n in names if n.isdigit())
    saving = [int(n[:-4]) for n in names if n.endswith(".tmp")]  # also what is being removed, which is older
    return steps, next((n for n in saving if n > max(steps, default=0)), None)


def assert_whole(out):
    steps = checkpoints(out)[0]
    for step in steps:
        done = t.weft("inspect", f"{out}/step_{step:06d}", "--verify")
        assert done.returncode == 0, done.stderr
    return steps[-1]


def assert_goes_on(out, ranks):
    """Two more steps from the newest checkpoint end with the bits of a run that nothing disturbed."""
    last = assert_whole(out)
    settings = [*SETTINGS, f"train.max_steps={last + 2}"]
    done = t.train(out, *settings, ranks=ranks)
    assert f"resumed from step {last} " in done.stderr, done.stderr
    assert_undisturbed(out, last + 2, ranks)
    return done


def assert_undisturbed(out, steps, ranks):
    straight = f"straight_{out}"
    t.train(straight, *SETTINGS, "checkpoint.every_steps=0", f"train.max_steps={steps}", ranks=ranks)
    assert t.bits(out, steps) == t.bits(straight, steps)
    assert t.metrics(out) == t.metrics(straight)


def rank_processes(out, ranks):
    """Process ids of the run's ranks, by rank."""
    found = {}
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            ours = (entry / "cwd").resolve() == t.dir.resolve()  # not those of another test
            if ours and f"output_dir={out}" in (entry / "cmdline").read_text().split("\0"):
                variables = dict(v.split("=", 1) for v in (entry / "environ").read_text().split("\0") if "=" in v)
                if "OMPI_COMM_WORLD_RANK" in variables:
                    found[int(variables["OMPI_COMM_WORLD_RANK"])] = int(entry.name)
        except OSError:
            pass  # gone meanwhile
    assert sorted(found) == list(range(ranks)), found
    return found


def wait_for(process, what):
    while not (result := what()):
        assert process.poll() is None, process.communicate()[0]
    return result


def interrupt_saves(out, ranks, interrupts, receivers, codes):
    """SIGINT, until `interrupts` of them have certainly fallen into a save; after each, all that is there is whole."""
    rng, inside, tries = random.Random(3), 0, 0
    while inside < interrupts:
        tries += 1
        assert tries <= MOST_TRIES, f"only {inside} of {tries} signals fell into a save"
        start = max(checkpoints(out)[0], default=0) + rng.randint(1, 3)
        process = t.start(out, *LONG, ranks=ranks)
        wait_for(process, lambda: max(checkpoints(out)[0], default=0) >= start)
        pids = receivers(process)
        saving = wait_for(process, lambda: checkpoints(out)[1])
        time.sleep(rng.uniform(0, 0.005 / tries))  # the fewer were hit, the nearer its beginning
        for pid in pids:
            os.kill(pid, signal.SIGINT)
        steps, still = checkpoints(out)
        inside += still == saving and saving not in steps
        output = process.communicate()[0]
        assert process.returncode in codes, (process.returncode, output)
        assert output.count("the checkpoint is committed") == 1, output
        assert assert_whole(out) >= saving and checkpoints(out)[1] is None
    assert_goes_on(out, ranks)


def sigint_from_a_terminal_during_a_save_leaves_whole_checkpoints():
    interrupt_saves("terminal", 1, INTERRUPTS, lambda run: [-run.pid], [TRY_AGAIN])  # its process group


def sigint_to_every_rank_during_a_save_leaves_whole_checkpoints():
    interrupt_saves("ranks", 2, INTERRUPTS, lambda run: rank_processes("ranks", 2).values(), [TRY_AGAIN])


def sigint_to_mpirun_during_a_save_leaves_whole_checkpoints():
    # mpirun asks its ranks to end; the exit code is its own then (1 with Open MPI 4), not that of the ranks.
    interrupt_saves("mpirun", 2, 1, lambda run: [-run.pid], [1, TRY_AGAIN])


def one_rank_without_disk_ends_the_run_and_the_checkpoint_before_is_whole():
    run = t.start("full", *LONG, ranks=2)
    wait_for(run, lambda: checkpoints("full")[0])
    resource.prlimit(rank_processes("full", 2)[1], resource.RLIMIT_FSIZE, (65536, 65536))
    output = run.communicate()[0]
    assert run.returncode == IO, (run.returncode, output)
    messages = [line for line in output.splitlines() if line.startswith(("weft", "error"))]
    assert len(messages) == 1 and "rank 1: " in messages[0] and "ulimit -f" in messages[0], output
    steps, saving = checkpoints("full")
    assert f"step {steps[-1] + 1} was not saved" in messages[0] and saving is None, output
    assert_goes_on("full", ranks=2)


def damage(out, step, name, change):
    path = t.dir / out / f"step_{step:06d}" / name
    raw = bytearray(path.read_bytes())
    path.write_bytes(change(raw) or raw)


def flip(raw):
    raw[len(raw) // 2] ^= 1


def halve(raw):
    return raw[:len(raw) // 2]


t.train("saved", *SETTINGS, "checkpoint.keep=3", "train.max_steps=6", ranks=2)  # steps 4, 5 and 6 are kept


def a_run_falls_back_past_every_damaged_checkpoint_and_passes_their_steps_again():
    shutil.copytree(t.dir / "saved", t.dir / "fallback")
    damage("fallback", 6, "rank_00001.h5", flip)  # rank 0's part is whole
    damage("fallback", 5, "manifest.json", halve)
    done = t.train("fallback", *SETTINGS, "train.max_steps=8", ranks=2)
    assert "step_000006/rank_00001.h5" in done.stderr and "step_000005/manifest.json" in done.stderr, done.stderr
    assert "resumed from step 4 " in done.stderr, done.stderr
    for step in (5, 6):
        assert (t.dir / "fallback" / f"step_{step:06d}.bad").exists()
    assert assert_whole("fallback") == 8 and checkpoints("fallback")[0] == [7, 8]
    assert_undisturbed("fallback", 8, ranks=2)
    done = assert_goes_on("fallback", ranks=2)  # what was moved aside does not matter any more
    assert "going back" not in done.stderr, done.stderr


def a_run_whose_checkpoints_are_all_damaged_does_not_start_again_from_nothing():
    shutil.copytree(t.dir / "saved", t.dir / "none")
    for step in (4, 5, 6):
        damage("none", step, "rank_00000.h5", flip)
    done = t.train("none", *SETTINGS, "train.max_steps=8", ranks=2, expect=BAD_DATA)
    assert "none of them is whole" in done.stderr, done.stderr
    assert checkpoints("none")[0] == [4, 5, 6] and len(t.metrics("none")) == 6


tiny.run([sigint_from_a_terminal_during_a_save_leaves_whole_checkpoints,
          sigint_to_every_rank_during_a_save_leaves_whole_checkpoints,
          sigint_to_mpirun_during_a_save_leaves_whole_checkpoints,
          one_rank_without_disk_ends_the_run_and_the_checkpoint_before_is_whole,
          a_run_falls_back_past_every_damaged_checkpoint_and_passes_their_steps_again,
          a_run_whose_checkpoints_are_all_damaged_does_not_start_again_from_nothing])
