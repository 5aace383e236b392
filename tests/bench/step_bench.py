#!/usr/bin/env python3
"""A training step of SmolLM2-135M, batch 4 x 256, Weft beside PyTorch + PEFT on the same cores in one run.

  step_bench.py MODEL.gguf [--steps 6] [--cases lora-bf16,lora-fp32,full-bf16,full-fp32] [--threads 2]

Needs a Python with torch, transformers and peft (tests/requirements.txt). Prints tokens/s (median over the steps
behind the second) and peak resident memory of each process, and the ratios. The model goes to PyTorch through
`weft export --format hf`.
"""
import argparse, json, os, pathlib, statistics, subprocess, sys, tempfile, time

ROOT = pathlib.Path(__file__).parents[2]
WEFT = os.environ.get("WEFT_BINARY", str(ROOT / "build" / "weft"))
BATCH, SEQ = 4, 256


def peer(folder, case, steps, threads):
    """Runs in a process of its own."""
    import resource, torch
    from transformers import AutoModelForCausalLM
    torch.set_num_threads(threads)
    kind, dtype = case.split("-")
    dtype = dict(bf16=torch.bfloat16, fp32=torch.float32)[dtype]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    model.train()
    if kind == "lora":
        from peft import LoraConfig, get_peft_model
        model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"))
        if dtype == torch.bfloat16:
            model = model.to(dtype)
    params = [p for p in model.parameters() if p.requires_grad]
    opt = torch.optim.AdamW(params, lr=1e-4, weight_decay=0.0)
    times = []
    for step in range(steps):
        x = torch.randint(0, 49000, (BATCH, SEQ))
        begin = time.perf_counter()
        loss = model(input_ids=x, labels=x).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        opt.zero_grad()
        times.append(time.perf_counter() - begin)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(dict(tokens_per_second=BATCH * SEQ / statistics.median(times[2:]), peak_mib=peak)))


def weft(gguf, case, steps, threads, temp):
    kind, dtype = case.split("-")
    data = temp / "text.jsonl"
    words = (ROOT / "README.md").read_text() * 3
    data.write_text("".join(json.dumps({"text": words[i * 40:i * 40 + 3000]}) + "\n" for i in range(4 * steps)))
    out = temp / case
    config = temp / f"{case}.yaml"
    config.write_text(json.dumps(dict(
        recipe="lora" if kind == "lora" else "sft", output_dir=str(out), model=dict(path=gguf),
        lora=dict(rank=16, alpha=32), data=dict(train=str(data), seq_len=SEQ, packing=False, too_long="truncate"),
        train=dict(dtype=dtype, micro_batch=BATCH, global_batch=BATCH, max_steps=steps, lr=1e-4, threads=threads),
        checkpoint=dict(every_steps=0), log=dict(progress="none"))))
    process = subprocess.Popen([WEFT, "train", config], stderr=subprocess.PIPE, text=True)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, process.stderr.read()
    lines = [json.loads(l) for l in (out / "metrics.jsonl").read_text().splitlines()]
    times = [l["seconds"] for l in lines if "grad_norm" in l]
    tokens = [l["tokens"] for l in lines if "grad_norm" in l]
    assert set(tokens) == {BATCH * SEQ}, tokens
    return dict(tokens_per_second=BATCH * SEQ / statistics.median(times[2:]), peak_mib=usage.ru_maxrss / 1024)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("gguf")
    p.add_argument("--steps", type=int, default=6)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--cases", default="lora-bf16,lora-fp32,full-bf16,full-fp32")
    p.add_argument("--peer", nargs=2, help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.peer:
        return peer(*a.peer, a.steps, a.threads)
    temp = pathlib.Path(tempfile.mkdtemp(prefix="weft-bench-"))
    subprocess.run([WEFT, "export", a.gguf, "--format", "hf", "--out", temp], check=True, stdout=subprocess.DEVNULL)
    print(f"{'case':<10} {'weft tok/s':>11} {'torch tok/s':>12} {'ratio':>6}   {'weft MiB':>9} {'torch MiB':>10} {'ratio':>6}")
    for case in a.cases.split(","):
        ours = weft(a.gguf, case, a.steps, a.threads, temp)
        command = [sys.executable, __file__, a.gguf, "--steps", str(a.steps), "--threads", str(a.threads), "--peer", str(temp / "hf"), case]
        theirs = json.loads(subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout.splitlines()[-1])
        speed, memory = (ours[k] / theirs[k] for k in ("tokens_per_second", "peak_mib"))
        print(f"{case:<10} {ours['tokens_per_second']:>11.0f} {theirs['tokens_per_second']:>12.0f} {speed:>5.2f}x   "
              f"{ours['peak_mib']:>9.0f} {theirs['peak_mib']:>10.0f} {memory:>5.2f}x", flush=True)


main()
