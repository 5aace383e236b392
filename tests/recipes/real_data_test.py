#!/usr/bin/env python3
"""Real records (WEFT_TEST_DATA): every one is read, and what is trained on is its answer and the end of turn, exactly."""
import json, os, pathlib, subprocess, sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import tiny

ROOT = pathlib.Path(os.environ.get("WEFT_SOURCE_DIR", pathlib.Path(__file__).parents[2]))
DATA = pathlib.Path(os.environ.get("WEFT_TEST_DATA", ROOT.parent / "shared" / "data"))
if not DATA.is_dir():
    print(f"skipped: no {DATA} (set WEFT_TEST_DATA, see docs/development.md)")
    sys.exit(77)

SHOWN = 400  # records of each set whose tokens are looked at
CUAD = ["--text-field", "clause_text", "--label-field", "labels"]
# What a template puts before an answer without reasoning; MiniMind's is a part of the prompt.
BEFORE = {"qwen3": "<think>\n\n</think>\n\n", "minimind": ""}


def weft(*arguments, **options):
    done = subprocess.run([tiny.WEFT, *map(str, arguments)], text=True, capture_output=True, timeout=300, **options)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    return done.stdout


def read(path):
    text = (DATA / path).read_text()
    return json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.splitlines()]


def check(path, count, answer_of, labelled=False, options=()):
    records = read(path)
    assert len(records) == count
    for name, before in BEFORE.items():
        tokenizer = DATA / "tokenizers" / name
        result = json.loads(weft("data", DATA / path, "--tokenizer", tokenizer, "--stats", "--show", SHOWN, "--json", *options))
        statistics, shown = result["statistics"], result["shown"]
        assert statistics["records"] == count and statistics["labelled"] == (count if labelled else 0), statistics
        learnt = [[token["id"] for token in tokens if token["trained"]] for tokens in shown]
        texts = weft("tokenize", tokenizer, "--decode", input="\n".join(map(json.dumps, learnt)))
        for record, line in zip(records[:SHOWN], texts.splitlines(), strict=True):
            expected = before + answer_of(record) + "<|im_end|>"
            assert json.loads(line)["text"] == expected, (name, json.loads(line)["text"], expected)


def alpaca_records_train_their_output():
    check("sft/rasbt_instruction_data.json", 1100, lambda record: record["output"])


def chinese_records_train_their_output():
    check("sft/zh_lawyer_judicial_exam.json", 2000, lambda record: record["output"])


def contract_clauses_train_their_labels():
    for part, count in (("train", 8685), ("val", 1850)):
        check(f"cls/cuad_clauses_{part}.jsonl", count, lambda record: ", ".join(record["labels"]), labelled=True, options=CUAD)


tiny.run([alpaca_records_train_their_output, chinese_records_train_their_output, contract_clauses_train_their_labels])
