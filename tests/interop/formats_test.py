# labels: slow torch
"""Loads what Weft exports in the programs that it is exported for: safetensors, gguf-py, llama.cpp, transformers, PEFT.

    formats_test.py               # a tiny model of each family; stories260K and SmolLM2-135M where they are
    formats_test.py MODEL ...     # these

Every model is written as f32 folder, bf16 shards and GGUF of each type, and with an adapter of uneven ranks that is
merged into it (write_exports.cc). Each check prints one line.
"""
import json, pathlib, subprocess, sys, tempfile

from interop import PROGRAMS, ROOT, real_models, skip_without

skip_without("gguf", "numpy", "safetensors", "torch", "transformers", "peft", "xllamacpp")
import gguf
import numpy as np
import torch
import xllamacpp
from gguf import GGMLQuantizationType as Type
from peft import PeftModel
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

FAILED = []


def check(what, good, detail=""):
    print(("ok     " if good else "FAILED ") + what + (f": {detail}" if detail else ""), flush=True)
    if not good:
        FAILED.append(what)


def bf16_to_f32(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def f32_to_bf16(values):
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def read_folder(folder):
    """All tensors as f32 and the set of stored dtypes, read by the safetensors package."""
    index = folder / "model.safetensors.index.json"
    files = {"model.safetensors"}
    if index.exists():
        files = set(json.loads(index.read_text())["weight_map"].values())
    tensors, dtypes = {}, set()
    for name in sorted(files):
        raw = (folder / name).read_bytes()
        length = int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8:8 + length])
        with safe_open(folder / name, framework="numpy") as file:  # the package's own checks
            assert file.metadata() == {"format": "pt"}, file.metadata()
            keys = set(file.keys())
        assert keys == set(header) - {"__metadata__"}
        for key in keys:
            entry = header[key]
            begin, end = entry["data_offsets"]
            data = raw[8 + length + begin:8 + length + end]
            dtypes.add(entry["dtype"])
            if entry["dtype"] == "BF16":
                values = bf16_to_f32(np.frombuffer(data, np.uint16))
            else:
                values = np.frombuffer(data, {"F32": np.float32, "F16": np.float16}[entry["dtype"]])
            tensors[key] = values.astype(np.float32).reshape(entry["shape"])
    return tensors, dtypes


HF_NAMES = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj",
            "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
            "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm",
            "attn_k_norm": "self_attn.k_norm", "ffn_norm": "post_attention_layernorm",
            "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}


def hf_name(name):
    whole = {"token_embd.weight": "model.embed_tokens.weight", "output.weight": "lm_head.weight",
             "output_norm.weight": "model.norm.weight"}
    if name in whole:
        return whole[name]
    _, layer, stem, kind = name.split(".")
    return f"model.layers.{layer}.{HF_NAMES[stem]}.{kind}"


def open_gguf(path):
    reader = gguf.GGUFReader(path)
    arch = reader.get_field("general.architecture").contents()
    heads = {"attn_q": int(reader.get_field(f"{arch}.attention.head_count").contents()),
             "attn_k": int(reader.get_field(f"{arch}.attention.head_count_kv").contents())}
    return reader, heads if arch == "llama" else {}


def heads_of(tensor, heads):
    parts = tensor.name.split(".")
    return heads.get(parts[2], 0) if parts[0] == "blk" else 0


def to_file_order(values, count):
    """llama.cpp's converter: rows of Hugging Face to those of arch llama."""
    if not count:
        return values
    shape = values.shape
    return values.reshape(count, 2, shape[0] // count // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def to_hf_order(values, count):
    if not count:
        return values
    shape = values.shape
    return values.reshape(count, shape[0] // count // 2, 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def check_base(base, tensors):
    if base.is_dir():
        expected, _ = read_folder(base)
    else:
        reader, heads = open_gguf(base)
        expected = {}
        for tensor in reader.tensors:
            if tensor.name == "rope_freqs.weight":
                continue
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
            values = values.reshape([int(d) for d in reversed(tensor.shape)])
            expected[hf_name(tensor.name)] = to_hf_order(values, heads_of(tensor, heads))
    differ = [name for name, values in expected.items()
              if name not in tensors or not np.array_equal(values, tensors[name])]
    check(f"hf: {len(expected)} tensors equal the base's bit for bit", not differ, str(differ[:3] or ""))


def check_gguf(path, tensors):
    reader, heads = open_gguf(path)
    wrong = []
    kinds = {}
    for tensor in reader.tensors:
        if tensor.name == "rope_freqs.weight":
            continue
        values = to_file_order(tensors[hf_name(tensor.name)], heads_of(tensor, heads))
        kind = tensor.tensor_type
        kinds[kind.name] = kinds.get(kind.name, 0) + 1
        stored = np.ascontiguousarray(tensor.data).view(np.uint8).ravel()
        if kind == Type.F32:
            expected = values
        elif kind == Type.F16:
            expected = values.astype(np.float16)
        elif kind == Type.BF16:
            expected = f32_to_bf16(values)
        else:
            expected = gguf.quants.quantize(values, kind)
        if not np.array_equal(np.ascontiguousarray(expected).view(np.uint8).ravel(), stored):
            wrong.append(tensor.name)
        if values.ndim == 1 and kind != Type.F32:
            wrong.append(tensor.name + " is not F32")
    count = sum(kinds.values())
    check(f"{path.name}: {count} tensors as gguf-py encodes them {kinds}",
          not wrong and count == len(tensors), str(wrong[:3] or ""))


def check_llama_cpp(paths, greedy):
    for path in paths:
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx = 512
        params.n_gpu_layers = 0
        params.sampling.temp = 0
        params.warmup = False
        params.verbosity = -1
        server = xllamacpp.Server(params)
        out = server.handle_completions({"prompt": "Once upon a time", "max_tokens": 60, "temperature": 0})
        text = out["choices"][0]["text"] if "choices" in out else out.get("content", "")
        good = bool(text.strip())
        if greedy:
            reference = json.loads(greedy.read_text())["text"]
            good = ("Once upon a time" + text)[:100] == reference[:100]
        check(f"{path.name}: llama.cpp loads and answers", good, repr(text[:70]))
        if any(f == "tokenizer.chat_template" for f in gguf.GGUFReader(path).fields):
            chat = server.handle_chat_completions(
                {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 16, "temperature": 0})
            answer = chat["choices"][0]["message"]["content"]
            check(f"{path.name}: llama.cpp chats", bool(answer.strip()), repr(answer[:70]))


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@torch.no_grad()
def logits_of(model):
    return model(torch.arange(1, 61).reshape(2, 30)).logits.float()


def check_transformers(folder):
    """The model's logits."""
    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    problems = {key: sorted(value)[:3] for key, value in info.items() if value}
    check(f"{folder.name}: transformers loads every tensor", not problems, str(problems or ""))
    logits = logits_of(model.eval())
    check(f"{folder.name}: logits are finite", bool(torch.isfinite(logits).all()))
    if (folder / "tokenizer.json").exists():
        tokenizer = AutoTokenizer.from_pretrained(folder)
        text = "Once upon a time, 1234."
        encoded = tokenizer.encode(text, add_special_tokens=False)
        check(f"{folder.name}: transformers' tokenizer gives the text back",
              tokenizer.decode(encoded).strip() == text, str(encoded[:8]))
    return logits


def check_adapter(base, adapted):
    plain, merged = logits_of(load(base)), logits_of(load(adapted / "hf"))
    distance = float((logits_of(PeftModel.from_pretrained(load(base), adapted / "adapter").eval()) - merged).abs().max())
    moved = float((merged - plain).abs().max())
    check("adapter: base + adapter in PEFT gives the merged model's logits", distance < 1e-4 * max(1, moved),
          f"{distance:.1e}, of logits that it moves by {moved:.1f}")


def check_exports(base, out):
    subprocess.run([PROGRAMS / "write_exports", base, out], check=True)
    tensors, dtypes = read_folder(out / "hf")
    check(f"hf: safetensors reads {len(tensors)} tensors", dtypes == {"F32"}, str(dtypes))
    shards, dtypes = read_folder(out / "hf-sharded")
    check(f"hf-sharded: safetensors reads {len(shards)} tensors", set(shards) == set(tensors) and dtypes == {"BF16"},
          str(dtypes))
    check_base(base, tensors)
    ggufs = sorted(out.glob("*.gguf"))
    for path in ggufs:
        check_gguf(path, tensors)
    if (out / "hf" / "tokenizer.json").exists():  # llama.cpp loads no model without one
        golden = base / "golden.json"
        check_llama_cpp(ggufs, golden if golden.exists() else None)
    logits = check_transformers(out / "hf")
    check_transformers(out / "hf-sharded")
    if base.is_dir():
        check("hf: logits of the base", bool((logits_of(load(base)) == logits).all()))
    check_adapter(out / "hf", out / "adapted")


MODELS = [pathlib.Path(argument) for argument in sys.argv[1:]]
if not MODELS:
    MODELS = [path.parent for path in sorted((ROOT / "tests/fixtures/models").glob("*/config.json"))] + [*real_models()]
torch.set_num_threads(2)
for model in MODELS:
    print(f"== {model.stem}", flush=True)
    with tempfile.TemporaryDirectory(prefix="weft-interop-") as folder:
        check_exports(model, pathlib.Path(folder))
sys.exit(1 if FAILED else 0)
