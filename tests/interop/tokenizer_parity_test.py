# labels: slow torch
"""`weft tokenize`, both ways, against Hugging Face's tokenizers on many lines of text.

    tokenizer_parity_test.py                       # every fixture; the models and tokenizers of WEFT_TEST_DATA, WEFT_SMOLLM2
    tokenizer_parity_test.py MODEL [--lines N] [--llama-cpp] [--text FILE ...]

MODEL is a .gguf whose tokenizer is byte-level BPE, or a folder with tokenizer.json. For a .gguf the reference is built
from the file's vocabulary and merges with the pre-tokenizers of its `pre`. Lines come from --text files (as they are, and
cut and glued at random) and from a generator of what breaks tokenizers. --llama-cpp: how many ids llama.cpp has equal.
"""
import argparse, http.client, json, os, pathlib, random, re, subprocess, sys, tempfile, unicodedata

from interop import DATA, ROOT, WEFT, real_models, skip_without

skip_without("tokenizers", "gguf", "xllamacpp")
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

QWEN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
BYTES = dict(add_prefix_space=False)


def pre_tokenizer(pre):
    split = lambda regex: pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(regex), "isolated"),
                                                   pre_tokenizers.ByteLevel(use_regex=False, **BYTES)])
    return {
        "gpt-2": lambda: pre_tokenizers.ByteLevel(**BYTES),
        "smollm": lambda: pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(**BYTES)]),
        "qwen2": lambda: split(QWEN),
        "llama-bpe": lambda: split(QWEN.replace(r"\p{N}|", r"\p{N}{1,3}|", 1)),
    }[pre]()


def reference(model):
    if not model.endswith(".gguf"):
        return Tokenizer.from_file(os.path.join(model, "tokenizer.json"))
    import gguf
    fields = gguf.GGUFReader(model).fields
    get = lambda key: fields["tokenizer.ggml." + key].contents()
    tokens, types = get("tokens"), get("token_type")
    assert get("model") == "gpt2", "only byte-level BPE"
    tok = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=[tuple(m.split(" ")) for m in get("merges")],
                               ignore_merges=get("pre") == "llama-bpe"))
    tok.pre_tokenizer, tok.decoder = pre_tokenizer(get("pre")), decoders.ByteLevel()
    tok.add_special_tokens([AddedToken(t, normalized=False, special=True) for t, k in zip(tokens, types) if k == 3])
    tok.add_tokens([AddedToken(t, normalized=False) for t, k in zip(tokens, types) if k == 4])
    return tok


def weird_lines(count, specials, rng):
    """Combining marks, joined emoji, spaces of all kinds, digits of all scripts, halves of special tokens, ..."""
    def assigned(lo, hi, age=13):  # tables of different libraries agree on what is old enough
        return [chr(c) for c in range(lo, hi) if unicodedata.category(chr(c)) not in ("Cn", "Cs")]
    blocks = [assigned(*b) for b in [(0x20, 0x7f), (0xa0, 0x250), (0x370, 0x530), (0x590, 0x6ff), (0x900, 0xd80), (0xe00, 0x1100),
              (0x1100, 0x1200), (0x1e00, 0x2000), (0x2000, 0x2c00), (0x3000, 0x3100), (0x4e00, 0x9000), (0xac00, 0xd7a0), (0xf900, 0xfb50),
              (0xfe00, 0x10000), (0x10000, 0x10400), (0x1d400, 0x1d800), (0x1f000, 0x1fa00)]]
    marks = assigned(0x300, 0x370) + assigned(0x64b, 0x660) + assigned(0x93a, 0x950)
    spaces = list(" \t\n\r\v\f\x85\xa0\u1680\u180e\u2000\u2003\u2009\u200a\u2028\u2029\u202f\u205f\u3000\u200b\ufeff\u2060")
    emoji = ["👨‍👩‍👧‍👦", "👍🏽", "🇩🇪🇫🇷", "❤️", "🏴‍☠️", "1️⃣", "👩🏿‍🚀", "😀", "🧑‍💻"]
    contractions = ["'s", "'S", "'t", "'re", "'RE", "'ve", "'ll", "'LL", "'d", "'ſ", "’s"]
    controls = [chr(c) for c in range(0x20) if c != 10] + ["\x7f", "\x80", "\x9f"]
    words = ["Hello", "world", "the", "naïve", "größer", "http://a.b/c?d=e&f", "foo_bar", "camelCaseWord", "x86_64", "3.14159", "1,000,000", "٣٤٥", "५६",
             "Ⅷ", "½", "²", "①", "def f(x):", "    return", "你好", "こんにちは", "안녕", "नमस्ते", "สวัสดี", "ﬁ", "Å", "İ", "ß", "..."]
    makers = [
        lambda: rng.choice(words), lambda: " " + rng.choice(words), lambda: rng.choice(rng.choice(blocks)), lambda: "".join(rng.choices(rng.choice(blocks), k=4)),
        lambda: rng.choice("aeiouAEIOU") + "".join(rng.choices(marks, k=rng.randint(1, 5))), lambda: rng.choice(spaces) * rng.choice([1, 1, 2, 3, 30]),
        lambda: "".join(rng.choices(spaces, k=rng.randint(1, 6))), lambda: rng.choice(emoji), lambda: rng.choice(contractions), lambda: rng.choice(controls),
        lambda: str(rng.randint(0, 10 ** rng.randint(1, 20))), lambda: rng.choice(specials), lambda: rng.choice(specials)[:rng.randint(1, 8)],
        lambda: rng.choice(specials)[rng.randint(1, 4):], lambda: rng.choice("!?.,;:-_=+*/\\|()[]{}<>@#$%^&~`'\"") * rng.randint(1, 5),
    ]
    for _ in range(count):
        yield "".join(rng.choice(makers)() for _ in range(rng.randint(1, 20)))


def lines_of(files, count, specials):
    rng = random.Random(20240)
    out = ["", " ", "\n", "\x00"] + [" " * n for n in (2, 3, 4, 15, 100, 1000)] + ["a" * 5000, "é" * 3000, "\u0301" * 2000]
    text = []
    for path in files:
        with open(path, encoding="utf8") as f:
            text += [line.rstrip("\n") for line in f if line.strip()]
    share = count // 2 if text else 0
    out += rng.sample(text, min(len(text), share // 2))
    while len(out) < share:  # lines joined and cut where no writer would
        joined = rng.choice(["\n", "\n\n", " ", "", "\t"]).join(rng.choices(text, k=rng.randint(1, 4)))
        begin = rng.randrange(len(joined) // 2 + 1)
        out.append(joined[begin:begin + rng.randint(1, 400)])
    return (out + list(weird_lines(count - len(out), specials, rng)))[:count]


def run_weft(model, lines, *options):
    done = subprocess.run([WEFT, "tokenize", model, *options], input="".join(json.dumps(l) + "\n" for l in lines).encode(),
                          stdout=subprocess.PIPE, check=True)
    return [json.loads(line) for line in done.stdout.split(b"\n") if line]


def report(what, lines, ours, theirs):
    wrong = [i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b]
    print(f"{what}: {len(lines) - len(wrong)} of {len(lines)} equal")
    for i in wrong[:5]:
        print("  ", json.dumps(lines[i])[:300], "\n    ours  ", str(ours[i])[:300], "\n    theirs", str(theirs[i])[:300])
    return not wrong and len(ours) == len(theirs)


def llama_cpp_ids(model, lines):
    import xllamacpp
    params = xllamacpp.CommonParams()
    params.model.path, params.n_ctx, params.n_parallel, params.warmup = model, 256, 1, False
    server = xllamacpp.Server(params)
    host, port = re.match(r"http://([^:/]+):(\d+)", server.listening_address).groups()
    connection = http.client.HTTPConnection(host, int(port))
    for line in lines:
        connection.request("POST", "/tokenize", json.dumps(dict(content=line, add_special=False, parse_special=True)),
                           {"Content-Type": "application/json"})
        yield json.loads(connection.getresponse().read())["tokens"]


def compare(model, count, texts, llama_cpp=False):
    tok = reference(model)
    specials = [t.content for t in tok.get_added_tokens_decoder().values()] or ["<s>"]
    lines = lines_of(texts, count, specials)
    theirs = [e.ids for e in tok.encode_batch(lines, add_special_tokens=False)]
    ours = run_weft(model, [dict(text=line) for line in lines])
    good = report("ids", lines, ours, theirs)
    decoded = [line["text"] for line in run_weft(model, theirs, "--decode")]
    good &= report("decoded texts", lines, decoded, tok.decode_batch(theirs, skip_special_tokens=False))
    if llama_cpp:
        some = [i for i in range(0, len(lines), 10) if "\x00" not in lines[i]]
        report("ids, llama.cpp (for information)", [lines[i] for i in some], [ours[i] for i in some],
               list(llama_cpp_ids(model, [lines[i] for i in some])))
    return good


def every_tokenizer(folder):
    """(name, model, lines): the fixtures, made whole in `folder`, and what real ones there are."""
    for path in sorted((ROOT / "tests" / "fixtures" / "tokenizer").glob("*.json")):
        target = folder / path.stem
        target.mkdir()
        (target / "tokenizer.json").write_text(json.dumps(json.loads(path.read_text())["tokenizer"]))
        yield path.stem, str(target), 500
    for path in [*sorted(DATA.glob("tokenizers/*")), *real_models()]:
        yield path.stem, str(path), 20000


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--lines", type=int, default=100000)
    parser.add_argument("--text", nargs="*", default=sorted(DATA.glob("text/*.txt")))
    parser.add_argument("--llama-cpp", action="store_true")
    args = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory(prefix="weft-interop-") as folder:
        chosen = [(args.model, args.model, args.lines)] if args.model else every_tokenizer(pathlib.Path(folder))
        for name, model, count in chosen:
            print(f"== {name}", flush=True)
            good &= compare(model, count, args.text, args.llama_cpp)
    sys.exit(0 if good else 1)


main()
