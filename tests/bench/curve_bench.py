#!/usr/bin/env python3
"""Training curves of a real model: the same steps on another device or in another dtype, and LoRA beside PyTorch + PEFT.

  curve_bench.py MODEL.gguf TRAIN.jsonl TEST.jsonl [--steps 200] [--no-peft] [--no-cpu] [--lora-on cpu]

1. 50 full steps: fp32 on the CPU and on the GPU, bf16 and fp16 on the GPU; prints the largest relative difference of a
   loss (fp32) and of the mean of the last five (16 bits).
2. LoRA (rank 16, all linear layers, bf16) for --steps steps in weft and in PyTorch + PEFT: the same records in the same
   order, the same learning rates; prints both held-out losses. With --lora-on cpu only this, on the CPU.
Needs a GPU but for that, and for 2 torch, transformers, peft and h5py. WEFT_BINARY names the program."""
import argparse, json, math, os, pathlib, subprocess, tempfile

WEFT = os.environ.get("WEFT_BINARY") or str(pathlib.Path(__file__).parents[2] / "build-cuda" / "weft")
SEQ, ROWS, LR, WARMUP, EVAL = 512, 8, 5e-4, 10, 200


def weft(*arguments):
    done = subprocess.run([WEFT, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"weft {' '.join(map(str, arguments))}: {done.returncode}\n{done.stderr}")
    return done.stdout


def train(folder, o, *overrides):
    config = folder.parent / "run.yaml"
    config.write_text(f"""
model: {{path: {o.model}}}
data: {{train: {o.train}, eval: {o.test}, prompt_field: question, completion_field: answer, seq_len: {SEQ},
       too_long: drop, packing: false, shuffle: false}}
train: {{lr: {LR}, schedule: cosine, warmup: {WARMUP}, micro_batch: {ROWS}, global_batch: {ROWS}, eval_records: {EVAL}}}
log: {{progress: none}}
""")
    weft("train", config, f"output_dir={folder}", *overrides)
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses(metrics):
    return [m["loss"] for m in metrics if "grad_norm" in m]


def held_out(metrics):
    return [m["evaluation"] for m in metrics if "evaluation" in m][-1]["loss"]


def devices_and_dtypes(work, o):
    full = ["recipe=sft", "train.max_steps=50", "train.lr=2e-5", "train.eval_records=8"]
    # The CPU's part is small enough for minutes.
    small = [*full, "train.micro_batch=2", "train.global_batch=2"]
    gpu = losses(train(work / "gpu32", o, *small, "train.device=cuda", "train.dtype=fp32"))
    if not o.no_cpu:
        cpu = losses(train(work / "cpu32", o, *small, "train.device=cpu", "train.dtype=fp32"))
        worst = max(abs(a - b) / b for a, b in zip(gpu, cpu))
        print(f"fp32, 50 steps: CPU and GPU differ by {worst:.1e} at most ({cpu[-1]:.6f}, {gpu[-1]:.6f} at the end)", flush=True)
    curves = {t: losses(train(work / t, o, *full, "train.device=cuda", f"train.dtype={t}")) for t in ("fp32", "bf16", "fp16")}
    last = {t: sum(c[-5:]) / 5 for t, c in curves.items()}
    for t in ("bf16", "fp16"):
        print(f"{t}, 50 steps: {last[t]:.5f} at the end, fp32 {last['fp32']:.5f}: {100 * (last[t] / last['fp32'] - 1):+.2f} %", flush=True)


def documents(work, o, records):
    import h5py
    path = work / (pathlib.Path(records).stem + ".h5")
    weft("data", records, "--tokenizer", o.model, "--out", path, "--seq-len", SEQ, "--too-long", "drop",
         "--prompt-field", "question", "--completion-field", "answer")
    with h5py.File(path) as f:
        tokens, mask, offsets = f["tokens"][:], f["loss_mask"][:], f["doc_offsets"][:]
    return [(tokens[b:e].tolist(), mask[b:e].tolist()) for b, e in zip(offsets[:-1], offsets[1:])]


def batch_of(torch, docs, device):
    longest = max(len(ids) for ids, _ in docs)
    ids = torch.zeros(len(docs), longest, dtype=torch.long)
    labels = torch.full((len(docs), longest), -100)
    attends = torch.zeros(len(docs), longest, dtype=torch.long)
    for row, (tokens, mask) in enumerate(docs):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        attends[row, : len(tokens)] = 1
        labels[row, : len(tokens)] = torch.tensor([t if m else -100 for t, m in zip(tokens, mask)])
    return ids.to(device), labels.to(device), attends.to(device)


def loss_sum(torch, model, docs):
    ids, labels, attends = batch_of(torch, docs, model.device)
    with torch.autocast(model.device.type, torch.bfloat16):
        logits = model(input_ids=ids, attention_mask=attends).logits[:, :-1]
    targets = labels[:, 1:]
    total = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="sum")
    return total, int((targets != -100).sum())


def peft_run(work, o):
    import torch, transformers, peft
    weft("export", o.model, "--format", "hf", "--out", work / "hf")
    base = transformers.AutoModelForCausalLM.from_pretrained(str(work / "hf" / "hf" if (work / "hf" / "hf").exists() else work / "hf"), dtype=torch.bfloat16).to(o.lora_on)
    torch.manual_seed(0)
    model = peft.get_peft_model(base, peft.LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"))
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=LR, betas=(0.9, 0.999), eps=1e-8, weight_decay=0)
    docs, test = documents(work, o, o.train), documents(work, o, o.test)[:EVAL]
    model.train()
    for step in range(o.steps):
        done = max(0, step - WARMUP) / max(1, o.steps - WARMUP)
        rate = LR * step / WARMUP if step < WARMUP else LR * 0.5 * (1 + math.cos(math.pi * done))
        for group in optimizer.param_groups:
            group["lr"] = rate
        total, count = loss_sum(torch, model, docs[step * ROWS : (step + 1) * ROWS])
        (total / count).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    model.eval()
    with torch.no_grad():
        parts = [loss_sum(torch, model, test[i : i + 20]) for i in range(0, len(test), 20)]
    return sum(float(t) for t, _ in parts) / sum(n for _, n in parts)


def main():
    p = argparse.ArgumentParser()
    for name in ("model", "train", "test"):
        p.add_argument(name)
    p.add_argument("--steps", type=int, default=200)
    p.add_argument("--no-peft", action="store_true")
    p.add_argument("--no-cpu", action="store_true")
    p.add_argument("--lora-on", choices=("cuda", "cpu"), default="cuda")
    o = p.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        if o.lora_on == "cuda":
            devices_and_dtypes(work, o)
        lora = ["recipe=lora", f"train.max_steps={o.steps}", f"train.device={o.lora_on}", "train.dtype=bf16"]
        mine = held_out(train(work / "lora", o, *lora))
        print(f"LoRA, {o.steps} steps: held-out loss {mine:.5f} in weft on {o.lora_on}", flush=True)
        if o.no_peft:
            return
        peer = peft_run(work, o)
        print(f"LoRA, {o.steps} steps: held-out loss {peer:.5f} in PyTorch + PEFT, weft {100 * (mine / peer - 1):+.2f} %")


main()
