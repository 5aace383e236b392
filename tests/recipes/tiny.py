"""A tiny model, tokenizer and data set, made on the spot, and ways to run weft on them. Standard library only."""
import json, os, pathlib, random, subprocess, tempfile

WEFT = os.environ.get("WEFT_BINARY") or str(pathlib.Path(__file__).parents[2] / "build" / "weft")
MPIRUN = ["mpirun", "--oversubscribe", "--bind-to", "none"]
ENV = dict(os.environ, OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
           OMPI_MCA_btl_vader_single_copy_mechanism="none", OMP_WAIT_POLICY="passive",
           ASAN_OPTIONS="detect_leaks=0")  # of the asan preset: Open MPI unloads plugins that have lost memory
CHAT = ("{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
WORDS = "red blue green one two three dog cat bird runs sleeps sings in the house garden river".split()


def byte_alphabet():
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = [b for b in range(256) if b not in kept]
    return {**{b: chr(b) for b in kept}, **{b: chr(256 + i) for i, b in enumerate(other)}}


def write_model(folder, **changes):
    """config.json, tokenizer.json (bytes, no merges; ids 0 to 258) and tokenizer_config.json; no weights."""
    folder.mkdir(parents=True, exist_ok=True)
    config = dict(architectures=["LlamaForCausalLM"], model_type="llama", vocab_size=272, hidden_size=32,
                  intermediate_size=56, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
                  max_position_embeddings=256, rms_norm_eps=1e-5, rope_theta=10000.0, hidden_act="silu",
                  tie_word_embeddings=True, initializer_range=0.08, bos_token_id=256, eos_token_id=258)
    config.update(changes)
    (folder / "config.json").write_text(json.dumps(config))
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocab = {ch: b for b, ch in byte_alphabet().items()} | {t: 256 + i for i, t in enumerate(specials)}
    added = [dict(id=256 + i, content=t, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
             for i, t in enumerate(specials)]
    level = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=True)
    (folder / "tokenizer.json").write_text(json.dumps(dict(
        version="1.0", truncation=None, padding=None, added_tokens=added, normalizer=None, pre_tokenizer=level,
        post_processor=None, decoder=level, model=dict(type="BPE", vocab=vocab, merges=[]))))
    (folder / "tokenizer_config.json").write_text(json.dumps(dict(
        bos_token="<|endoftext|>", eos_token="<|im_end|>", chat_template=CHAT)))


def write_data(path, records=60, seed=1):
    rng = random.Random(seed)
    with open(path, "w") as out:
        for _ in range(records):
            prompt = " ".join(rng.choices(WORDS, k=rng.randint(1, 6)))
            answer = " ".join(rng.choices(WORDS, k=rng.randint(1, 4)))
            out.write(json.dumps(dict(prompt=prompt, completion=answer)) + "\n")


def write_even_data(path, records=400):
    """Records of 32 tokens each: with data.seq_len a multiple of it every row is full."""
    with open(path, "w") as out:
        for i in range(records):
            out.write(json.dumps(dict(prompt=f"red {i:03d}", completion="blue")) + "\n")


class Tiny:
    """A folder with model/, data.jsonl and run.yaml; runs go to folders inside it."""

    def __init__(self):
        self.temp = tempfile.TemporaryDirectory(prefix="weft-test-")
        self.dir = pathlib.Path(self.temp.name)
        write_model(self.dir / "model")
        write_data(self.dir / "data.jsonl")
        (self.dir / "run.yaml").write_text(json.dumps(dict(
            recipe="pretrain", model=dict(config="model/config.json", tokenizer="model"),
            data=dict(train="data.jsonl", seq_len=96),
            train=dict(device="cpu", dtype="fp32", micro_batch=1, global_batch=4, max_steps=20, lr=3e-3, warmup=3, threads=1),
            checkpoint=dict(every_steps=0), log=dict(progress="none"))))

    def command(self, *arguments, ranks=1):
        mpi = MPIRUN + ["-np", str(ranks)] if ranks > 1 else []
        return [*mpi, WEFT, *map(str, arguments)]

    def weft(self, *arguments, ranks=1, **options):
        return subprocess.run(self.command(*arguments, ranks=ranks), cwd=self.dir, env=ENV, text=True,
                              capture_output=True, timeout=300, **options)

    def train(self, out, *overrides, ranks=1, expect=0):
        done = self.weft("train", "run.yaml", f"output_dir={out}", *overrides, ranks=ranks)
        assert done.returncode == expect, f"exit code {done.returncode}, expected {expect}:\n{done.stdout}{done.stderr}"
        return done

    def start(self, out, *overrides, ranks=1):
        return subprocess.Popen(self.command("train", "run.yaml", f"output_dir={out}", *overrides, ranks=ranks),
                                cwd=self.dir, env=ENV, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                start_new_session=True)

    def metrics(self, out, key="loss"):
        lines = map(json.loads, (self.dir / out / "metrics.jsonl").read_text().splitlines())
        return [line[key] for line in lines if "grad_norm" in line]

    def bits(self, out, step=20):
        """Every tensor of a checkpoint as checksums, whatever the paths and times in it."""
        manifest = json.loads((self.dir / out / f"step_{step:06d}" / "manifest.json").read_text())
        return {(p["kind"], p["name"], json.dumps([p["begin"], p["end"]])): p["xxh3"] for f in manifest["files"] for p in f["pieces"]}


def run(tests):
    """Runs the functions as claims; any exception fails the script."""
    failed = 0
    for test in tests:
        try:
            test()
            print("ok  ", test.__name__, flush=True)
        except Exception as e:  # report all of them
            failed += 1
            print("FAIL", test.__name__, "\n", e, flush=True)
    raise SystemExit(1 if failed else 0)
