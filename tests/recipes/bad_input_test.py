#!/usr/bin/env python3
"""Bad input gets one clear message and the right exit code, before any work, and nothing is lost."""
import json, os, pathlib, shutil, signal, struct, subprocess, sys, time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import tiny

USAGE, BAD_DATA, NO_INPUT, UNAVAILABLE, IO, TRY_AGAIN = 64, 65, 66, 69, 74, 75
t = tiny.Tiny()
t.train("base", "train.max_steps=6", "train.warmup=1", "checkpoint.every_steps=3", "checkpoint.keep=5")
t.weft("export", "base", "--format", "hf", "--out", "exported")
MODEL = t.dir / "exported" / "hf"


def refused(code, words, *arguments, ranks=1):
    done = t.weft(*arguments, ranks=ranks)
    assert done.returncode == code, f"exit code {done.returncode}, expected {code}: {done.stdout}{done.stderr}"
    for word in words if isinstance(words, (list, tuple)) else [words]:
        assert word in done.stderr, f"'{word}' is not in: {done.stderr}"
    messages = [l for l in done.stderr.splitlines() if l.startswith(("weft", "error"))]
    assert len(messages) == 1, done.stderr


def train_refused(code, words, *overrides, ranks=1, out="scratch"):
    refused(code, words, "train", "run.yaml", f"output_dir={out}", *overrides, ranks=ranks)


def broken_model(name, change):
    """A copy of the exported model in which `change(header, data)` returns other bytes of the weights' file."""
    folder = t.dir / name
    shutil.copytree(MODEL, folder, dirs_exist_ok=True)
    path = folder / "model.safetensors"
    raw = path.read_bytes()
    n = struct.unpack("<Q", raw[:8])[0]
    path.write_bytes(change(json.loads(raw[8:8 + n]), raw[8 + n:], raw))
    return folder


def with_header(header, data):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def a_config_that_is_wrong_names_the_key():
    train_refused(USAGE, ["train.warm_up", "warmup"], "train.warm_up=1")
    train_refused(USAGE, "train.lr", "train.lr=fast")
    train_refused(USAGE, "train.lr", "train.lr=-1")
    (t.dir / "typo.yaml").write_text("recipe: lora\ntrain:\n  max_stepss: 3\n")
    refused(USAGE, ["typo.yaml:3", "max_steps"], "train", "typo.yaml")
    refused(NO_INPUT, "absent.yaml", "train", "absent.yaml")
    refused(USAGE, "frobnicate", "frobnicate")


def missing_files_are_named():
    train_refused(NO_INPUT, "absent.jsonl", "data.train=absent.jsonl")
    train_refused(NO_INPUT, "nowhere", "model.config=nowhere/config.json")
    refused(NO_INPUT, "nowhere", "generate", "nowhere", "--prompt", "x")


def damaged_safetensors_are_refused():
    def overlap(header, data, raw):
        names = [k for k in header if k != "__metadata__"]
        header[names[1]]["data_offsets"] = header[names[0]]["data_offsets"]
        return with_header(header, data)

    def out_of_range(header, data, raw):
        last = max((k for k in header if k != "__metadata__"), key=lambda k: header[k]["data_offsets"][1])
        header[last]["data_offsets"][1] += 1 << 40
        return with_header(header, data)

    cases = {"truncated": lambda h, d, raw: raw[:-100], "oversized_header": lambda h, d, raw: b"\xff" * 7 + b"\x7f" + raw[8:],
             "overlapping": overlap, "out_of_range": out_of_range, "no_header": lambda h, d, raw: raw[:5]}
    for name, change in cases.items():
        refused(BAD_DATA, "model.safetensors", "generate", broken_model(name, change), "--prompt", "x")


def a_gguf_whose_sizes_wrap_is_refused():
    (t.dir / "wrap.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 1 << 63, 1 << 62) + b"\0" * 64)
    refused(BAD_DATA, "wrap.gguf", "inspect", "wrap.gguf")


def shapes_that_do_not_match_the_config_are_listed():
    folder = t.dir / "shapes"
    shutil.copytree(MODEL, folder)
    config = json.loads((folder / "config.json").read_text())
    config["intermediate_size"] = 60
    (folder / "config.json").write_text(json.dumps(config))
    refused(BAD_DATA, ["gate_proj", "56", "60"], "generate", folder, "--prompt", "x")


def a_tokenizer_of_another_model_is_refused():
    tiny.write_model(t.dir / "small", vocab_size=100)
    train_refused(BAD_DATA, ["token id", "vocabulary of 100"], "model.config=small/config.json")


def bad_records_are_named_by_line():
    (t.dir / "empty.jsonl").write_text("")
    train_refused(BAD_DATA, "empty.jsonl", "data.train=empty.jsonl")
    (t.dir / "fields.jsonl").write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "a"}\n')
    train_refused(BAD_DATA, "fields.jsonl:2", "data.train=fields.jsonl")
    (t.dir / "broken.jsonl").write_text('{"prompt": "a", "completion": "b"}\n{"prompt": \n')
    train_refused(BAD_DATA, "broken.jsonl:2", "data.train=broken.jsonl")
    (t.dir / "long.jsonl").write_text(json.dumps({"prompt": "x" * 300, "completion": "b"}))
    train_refused(BAD_DATA, ["long.jsonl:1", "data.too_long"], "data.train=long.jsonl")


def sizes_that_do_not_fit_are_refused():
    train_refused(USAGE, ["512", "256"], "data.seq_len=512")
    train_refused(USAGE, ["global_batch", "use 3 or 6"], "train.global_batch=4", ranks=3)
    train_refused(UNAVAILABLE, "parallel.tensor", "parallel.tensor=2", ranks=2)
    refused(BAD_DATA, "tokens", "generate", MODEL, "--prompt", "x" * 400)


def a_changed_config_on_resume_is_refused_with_both_values():
    train_refused(USAGE, ["train.lr", "0.003", "0.001"], "train.lr=1e-3", "train.max_steps=6", "train.warmup=1", out="base")


def a_run_that_may_not_resume_refuses_a_folder_with_checkpoints():
    train_refused(USAGE, ["base", "step 6", "checkpoint.resume"], "checkpoint.resume=never", ranks=2, out="base")
    assert (t.dir / "base" / "step_000006").exists()


def a_damaged_checkpoint_is_named_and_the_one_before_used():
    shutil.copytree(t.dir / "base", t.dir / "damaged")
    bits = t.bits("damaged", 6)
    path = t.dir / "damaged" / "step_000006" / "rank_00000.h5"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    done = t.train("damaged", "train.max_steps=6", "train.warmup=1", "checkpoint.every_steps=3", "checkpoint.keep=5")
    assert "step_000006" in done.stderr and "resumed from step 3" in done.stderr, done.stderr
    assert t.bits("damaged", 6) == bits  # it reached step 6 again, with the same bits
    assert (t.dir / "damaged" / "step_000006.bad").exists()


def two_runs_in_one_folder_are_one_too_many():
    first = t.start("shared", "train.max_steps=100000")
    while not (t.dir / "shared" / "metrics.jsonl").exists():
        time.sleep(0.05)
        assert first.poll() is None, first.communicate()[0]
    train_refused(UNAVAILABLE, "shared", "train.max_steps=100000", out="shared")
    first.send_signal(signal.SIGINT)
    output = first.communicate()[0]
    assert first.returncode == TRY_AGAIN, (first.returncode, output)


def a_file_size_limit_ends_the_save_and_keeps_the_checkpoint_before():
    shutil.copytree(t.dir / "base", t.dir / "full")
    before = t.bits("full", 6)
    command = "ulimit -f 64; exec " + " ".join(t.command("train", "run.yaml", "output_dir=full", "train.max_steps=9",
                                                          "train.warmup=1", "checkpoint.every_steps=3"))
    done = subprocess.run(["bash", "-c", command], cwd=t.dir, env=tiny.ENV, text=True, capture_output=True, timeout=120)
    assert done.returncode == IO, (done.returncode, done.stderr)
    assert t.bits("full", 6) == before and not (t.dir / "full" / "step_000009").exists()
    t.train("full", "train.max_steps=9", "train.warmup=1", "checkpoint.every_steps=3")


def a_folder_that_cannot_be_written_is_an_io_error():
    (t.dir / "file").write_text("")
    train_refused(IO, "file", out="file/run")


def a_loss_that_is_not_finite_is_skipped_and_then_ends_the_run():
    done = t.train("nan", "train.lr=1e30", "train.max_grad_norm=0", "train.warmup=0", "train.max_bad_steps=3", expect=BAD_DATA)
    assert "3 steps in a row" in done.stderr, done.stderr


def out_of_memory_names_the_request_the_table_and_what_to_change():
    tiny.write_model(t.dir / "wide", hidden_size=256, intermediate_size=1024, num_hidden_layers=4)
    wide = ["model.config=wide/config.json", "train.micro_batch=16", "train.global_batch=16", "train.max_steps=2", "train.warmup=1"]
    for out, limit in (("activations", "100MiB"), ("optimizer", "50MiB")):
        train_refused(UNAVAILABLE, ["within train.memory_limit", "MiB asked for (", "parameter ", "optimizer ", "workspace ",
                                    "train.micro_batch=8 saves about", "train.recompute=full saves about", "recipe=lora",
                                    "train.optimizer_dtype=bf16", "2 ranks instead of 1"],
                      f"train.memory_limit={limit}", *wide, out=out)
    t.train("enough", "train.memory_limit=1GiB", *wide)


tiny.run([a_config_that_is_wrong_names_the_key, missing_files_are_named, damaged_safetensors_are_refused,
          a_gguf_whose_sizes_wrap_is_refused, shapes_that_do_not_match_the_config_are_listed,
          a_tokenizer_of_another_model_is_refused, bad_records_are_named_by_line, sizes_that_do_not_fit_are_refused,
          a_changed_config_on_resume_is_refused_with_both_values,
          a_run_that_may_not_resume_refuses_a_folder_with_checkpoints, a_damaged_checkpoint_is_named_and_the_one_before_used,
          two_runs_in_one_folder_are_one_too_many, a_file_size_limit_ends_the_save_and_keeps_the_checkpoint_before,
          a_folder_that_cannot_be_written_is_an_io_error, a_loss_that_is_not_finite_is_skipped_and_then_ends_the_run,
          out_of_memory_names_the_request_the_table_and_what_to_change])
