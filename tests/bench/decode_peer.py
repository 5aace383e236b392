#!/usr/bin/env python3
"""Speed of transformers' generate, greedy, with random weights: the peer of decode_bench, same options, same JSON.

  decode_peer.py [--size 135m|1b] [--batch N] [--prompt N] [--tokens N] [--device cpu|cuda] [--dtype bf16|fp32]
                 [--static]      # a static cache and torch.compile, transformers' fastest way

A token's time is that of a call for N tokens less that of a call for one, a token; the best of three.
"""
import argparse, json, time, torch
from transformers import LlamaConfig, LlamaForCausalLM

SIZES = {"135m": (30, 576, 9, 3, 1536, 49152), "1b": (16, 2048, 32, 8, 8192, 128256), "tiny": (2, 128, 4, 2, 256, 1000)}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--size", choices=SIZES, default="135m")
    p.add_argument("--batch", type=int, default=1)
    p.add_argument("--prompt", type=int, default=128)
    p.add_argument("--tokens", type=int, default=128)
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--dtype", choices=("bf16", "fp32"), default="bf16")
    p.add_argument("--static", action="store_true")
    a = p.parse_args()
    layers, width, heads, kv_heads, ffn, vocab = SIZES[a.size]
    torch.manual_seed(1)
    config = LlamaConfig(hidden_size=width, intermediate_size=ffn, num_hidden_layers=layers, num_attention_heads=heads,
                         num_key_value_heads=kv_heads, vocab_size=vocab, max_position_embeddings=8192, rms_norm_eps=1e-5,
                         rope_theta=500000.0, tie_word_embeddings=True, attn_implementation="sdpa",
                         bos_token_id=None, eos_token_id=None, pad_token_id=0)
    with torch.device(a.device):
        model = LlamaForCausalLM(config).to(dict(bf16=torch.bfloat16, fp32=torch.float32)[a.dtype]).eval()
    ids = torch.randint(1, vocab, (a.batch, a.prompt), device=a.device)
    mask = torch.ones_like(ids)
    more = dict(cache_implementation="static") if a.static else {}

    def seconds(tokens):
        wait = torch.cuda.synchronize if a.device == "cuda" else lambda: None
        wait()
        begin = time.perf_counter()
        with torch.inference_mode():
            out = model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=tokens, min_new_tokens=tokens, **more)
        wait()
        assert out.shape[1] == a.prompt + tokens, out.shape
        return time.perf_counter() - begin

    for warm in (1, 4, a.tokens if a.static else 4):
        seconds(warm)
    one = min(seconds(1) for _ in range(3))
    token = (min(seconds(a.tokens) for _ in range(3)) - one) / (a.tokens - 1)
    print(json.dumps(dict(engine="transformers" + (" static" if a.static else ""), size=a.size, device=a.device, dtype=a.dtype,
                          batch=a.batch, prompt=a.prompt, new_tokens=a.tokens, prompt_ms=round(one * 1e3, 3),
                          ms_per_token=round(token * 1e3, 4), tokens_per_second=round(a.batch / token, 1))))


main()
