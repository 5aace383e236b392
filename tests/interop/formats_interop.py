#!/usr/bin/env python3
"""Loads what Weft exported in the programs that it was exported for.

    formats_interop.py EXPORTS [--base MODEL] [--greedy GOLDEN_JSON]

EXPORTS holds any of: hf/ and hf-sharded/ (Hugging Face folders of one model), *.gguf of that model,
adapter/ (a PEFT adapter of --base). --base: what was exported, a folder or a GGUF; the f32 folder hf/
must hold exactly its weights (leave it out for a merged model). --greedy: {"text": ...}, the
greedy continuation that every GGUF must begin with.

Needs safetensors, numpy and gguf; xllamacpp, transformers with torch, and peft are used when they
are there, and named when they are not. Each check prints one line; the exit code is 1 when one
failed. Tried with safetensors 0.8.0, gguf 0.19.0, numpy 2.4.6, xllamacpp 2026.10.11549,
transformers 5.23.0, torch 2.15.0, peft 0.21.2.
"""
import argparse
import importlib.util
import json
import pathlib
import sys

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from safetensors import safe_open

FAILED = []


def check(what, good, detail=""):
    print(("ok     " if good else "FAILED ") + what + (f": {detail}" if detail else ""), flush=True)
    if not good:
        FAILED.append(what)


def has(module):
    found = importlib.util.find_spec(module) is not None
    if not found:
        print(f"--     {module} is not installed: its checks are left out")
    return found


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
    import xllamacpp

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


def logits_of(model, ids):
    import torch

    with torch.no_grad():
        return model(ids).logits.float()


def check_transformers(exports, base, folders):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    ids = torch.arange(1, 65).reshape(2, 32)
    loaded = {}
    for folder in folders:
        model, info = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True)
        problems = {key: sorted(value)[:3] for key, value in info.items() if value}
        check(f"{folder.name}: transformers loads every tensor", not problems, str(problems or ""))
        loaded[folder.name] = logits_of(model.eval(), ids)
        finite = bool(torch.isfinite(loaded[folder.name]).all())
        check(f"{folder.name}: logits are finite", finite)
        if (folder / "tokenizer.json").exists():
            tokenizer = AutoTokenizer.from_pretrained(folder)
            text = "Once upon a time, 1234."
            encoded = tokenizer.encode(text, add_special_tokens=False)
            check(f"{folder.name}: transformers' tokenizer gives the text back",
                  tokenizer.decode(encoded).strip() == text, str(encoded[:8]))
    if base and base.is_dir() and "hf" in loaded:
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
        distance = float((logits_of(model, ids) - loaded["hf"]).abs().max())
        check("hf: logits of the base", distance == 0 or (exports / "adapter").is_dir(), f"{distance:.2e}")
        if (exports / "adapter").is_dir() and has("peft"):
            from peft import PeftModel

            adapted = PeftModel.from_pretrained(model, exports / "adapter").eval()
            distance = float((logits_of(adapted, ids) - loaded["hf"]).abs().max())
            check("adapter: base + adapter in PEFT gives the merged model's logits", distance < 1e-4,
                  f"{distance:.2e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exports", type=pathlib.Path)
    parser.add_argument("--base", type=pathlib.Path)
    parser.add_argument("--greedy", type=pathlib.Path)
    args = parser.parse_args()
    folders = [args.exports / name for name in ("hf", "hf-sharded") if (args.exports / name).is_dir()]
    ggufs = sorted(args.exports.glob("*.gguf"))
    merged = (args.exports / "adapter").is_dir()
    tensors = None
    for folder in folders:
        found, dtypes = read_folder(folder)
        check(f"{folder.name}: safetensors reads {len(found)} tensors", bool(found), str(dtypes))
        tensors = found if folder.name == "hf" else tensors
    if tensors and args.base and not merged:
        check_base(args.base, tensors)
    if tensors:
        for path in ggufs:
            check_gguf(path, tensors)
    if ggufs and has("xllamacpp"):
        check_llama_cpp(ggufs, args.greedy)
    if folders and has("torch") and has("transformers"):
        check_transformers(args.exports, args.base, folders)
    if not folders and not ggufs:
        check("there is something to look at", False, str(args.exports))
    sys.exit(1 if FAILED else 0)


if __name__ == "__main__":
    main()
