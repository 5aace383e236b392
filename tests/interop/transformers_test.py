# labels: slow torch
"""Equal to transformers on real models: stories260K (WEFT_TEST_DATA) and SmolLM2-135M (WEFT_SMOLLM2, a .gguf).

Logits, loss and every parameter's gradient of a few documents; greedy ids. SmolLM2 goes to transformers through
`weft export --format hf`, so the export is checked too. Also: a trained LoRA run's merged folder in transformers and
its adapter in PEFT give the same logits.
"""
import json, pathlib, subprocess, sys, tempfile

from interop import DATA, PROGRAMS, ROOT, SMOLLM2, WEFT, skip_without

skip_without("torch", "transformers", "peft", "safetensors")
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

DUMP = PROGRAMS / "dump_gradients"
TEMPORARY = tempfile.TemporaryDirectory(prefix="weft-interop-")
TEMP = pathlib.Path(TEMPORARY.name)
torch.set_num_threads(2)


def weft(*arguments, **options):
    done = subprocess.run([WEFT, *map(str, arguments)], text=True, capture_output=True, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def relative(a, b):
    return ((a - b).norm() / b.norm().clamp_min(1e-30)).item()


def compare(name, weft_model, hf_folder, documents):
    ids = TEMP / "ids.json"
    ids.write_text(json.dumps(documents))
    subprocess.run([DUMP, weft_model, ids, TEMP / "out.safetensors"], check=True)
    ours = load_file(TEMP / "out.safetensors")
    model = AutoModelForCausalLM.from_pretrained(hf_folder, dtype=torch.float32, attn_implementation="eager")
    logits = torch.cat([model(torch.tensor([d])).logits[0] for d in documents])
    labels = torch.cat([torch.tensor(d[1:] + [-100]) for d in documents])
    loss = torch.nn.functional.cross_entropy(logits, labels, ignore_index=-100)
    loss.backward()
    worst, checked = ("", 0.0), 0
    for parameter, p in model.named_parameters():
        error = relative(ours["grad." + parameter], p.grad)
        worst = max(worst, (parameter, error), key=lambda x: x[1])
        checked += 1
    figures = dict(logits=relative(ours["logits"], logits.detach()), loss=abs(ours["loss"].item() - loss.item()),
                   gradients=checked, worst_gradient=worst[1], of=worst[0])
    print(name, json.dumps(figures), flush=True)
    assert figures["logits"] <= 1e-4 and figures["loss"] <= 1e-5 and worst[1] <= 1e-4, figures
    return model


def stories():
    folder = DATA / "models" / "stories260K-hf"
    golden = json.loads((folder / "golden.json").read_text())
    ids = golden["greedy_ids"]
    model = compare("stories260K", folder, folder, [ids[:60], ids[60:61], ids[61:100]])
    out = json.loads(weft("generate", folder, "--raw", "--prompt", "Once upon a time", "--max-tokens", 200, "--dtype", "fp32", "--json"))
    n = next(i for i in range(len(ids)) if ids[i:i + len(out["ids"][:5])] == out["ids"][:5])
    both = min(len(ids) - n, len(out["ids"]))
    assert both > 100 and ids[n:n + both] == out["ids"][:both], (ids, out["ids"])
    print("stories260K: greedy ids equal golden.json,", both, "tokens")


def smollm2():
    weft("export", SMOLLM2, "--format", "hf", "--out", TEMP / "smollm2")
    text = "The capital of France is Paris. Attention is all you need, and a good night's sleep."
    ids = json.loads(weft("tokenize", SMOLLM2, input=json.dumps({"text": text}) + "\n"))
    compare("SmolLM2-135M", SMOLLM2, TEMP / "smollm2" / "hf", [ids, ids[:7], ids[3:12]])


def trained_exports():
    sys.path.insert(0, str(ROOT / "tests" / "recipes"))
    import tiny
    from peft import PeftModel
    t = tiny.Tiny()
    t.train("base", "train.max_steps=5", "train.warmup=1")
    t.weft("export", "base", "--format", "hf", "--out", "out")
    base = t.dir / "out" / "hf"
    for name, extra in dict(lora=[], rslora=["lora.rslora=true"], dora=["lora.dora=true"]).items():
        t.train(name, "recipe=lora", "model.config=", f"model.path={base}", "lora.rank=4", "train.lr=2e-2", *extra)
        done = t.weft("export", name, "--format", "hf", "--format", "peft")
        assert done.returncode == 0, done.stderr
        x = torch.randint(0, 250, (1, 40), generator=torch.Generator().manual_seed(1))
        merged = AutoModelForCausalLM.from_pretrained(t.dir / name / "export" / "hf", dtype=torch.float32)
        plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        before = plain(x).logits.detach()
        adapted = PeftModel.from_pretrained(plain, t.dir / name / "export" / "adapter")
        with torch.no_grad():
            a, b = merged(x).logits, adapted(x).logits
        print(f"{name}: merged against PEFT {relative(a, b):.2e}; the adapter moves logits by {relative(b, before):.2f}")
        assert relative(a, b) <= 1e-4 and relative(b, before) > 0.01
        (t.dir / "ids.json").write_text(json.dumps([x[0].tolist()]))
        subprocess.run([DUMP, t.dir / name / "export" / "hf", t.dir / "ids.json", t.dir / "o.safetensors"], check=True)
        ours = load_file(t.dir / "o.safetensors")["logits"]
        assert relative(ours, a[0]) <= 1e-4, relative(ours, a[0])


if (DATA / "models" / "stories260K-hf").is_dir():
    stories()
else:
    print("skipped stories260K: no WEFT_TEST_DATA")
if SMOLLM2:
    smollm2()
else:
    print("skipped SmolLM2: set WEFT_SMOLLM2 to its .gguf")
trained_exports()
