# labels: slow torch
"""Exported GGUF files answer in llama.cpp as Weft does: SmolLM2-135M (WEFT_SMOLLM2, a .gguf) as F16, BF16 and Q8_0.

Top tokens: for every position of TEXTS llama.cpp's likeliest next token against that of Weft's f32 logits, both of the
model that was exported and of the exported file itself. Token ids, the chat template and greedy chat answers too.
llama.cpp multiplies Q8_0 weights by activations that it rounds to 8 bits, so near ties fall the other way at 3 to 4 %
of the positions, as between its own F16 and Q8_0. What Weft wrote is judged apart from that: the Q8_0 file's weights,
exported once more as F16, must agree as F16 does.
"""
import json, pathlib, subprocess, tempfile, urllib.request

from interop import DATA, PROGRAMS, SMOLLM2 as GGUF, WEFT, skip, skip_without

skip_without("xllamacpp", "safetensors", "torch")
if not GGUF:
    skip("set WEFT_SMOLLM2 to SmolLM2's .gguf")
import xllamacpp
from safetensors.torch import load_file

DUMP = PROGRAMS / "dump_gradients"
TEMPORARY = tempfile.TemporaryDirectory(prefix="weft-llama-cpp-")
TEMP = pathlib.Path(TEMPORARY.name)
# Smallest part of the positions at which llama.cpp's top token is ours. BF16: llama.cpp rounds activations to
# bf16 too, so near ties fall the other way more often than with F16.
BOUNDS = {"f16": 0.99, "bf16": 0.97, "q8_0": 0.95}
Q8_0_BOUND = 0.97  # of the file in Weft, on the first records of GSM8K's test part: whole problems with answers
GSM8K = DATA / "sft" / "gsm8k_test.jsonl"

TEXTS = [
    "The lighthouse keeper climbed the stairs every evening at dusk, carrying a lamp and a small tin of oil. From the "
    "gallery he could see the whole bay, the fishing boats coming home, and the long grey line of the mainland.",
    "Photosynthesis is the process by which green plants use sunlight to make sugar from carbon dioxide and water. "
    "Oxygen is released as a by-product, and almost all life on Earth depends on it directly or indirectly.",
    "def fibonacci(n):\n    \"\"\"Return the first n Fibonacci numbers.\"\"\"\n    numbers = [0, 1]\n    for i in "
    "range(2, n):\n        numbers.append(numbers[i - 1] + numbers[i - 2])\n    return numbers[:n]\n",
    "To bake the bread, mix 500 g of flour with 10 g of salt, 7 g of dry yeast and 320 ml of warm water. Knead the "
    "dough for ten minutes, let it rise for an hour, then bake it at 230 degrees for about 35 minutes.",
    "Question: A train leaves the station at 9:15 and travels 180 km at 60 km per hour. When does it arrive?\n"
    "Answer: The journey takes 180 / 60 = 3 hours, so the train arrives at 12:15.",
    "In 1969 the first people walked on the Moon. Neil Armstrong and Buzz Aldrin spent about two and a half hours "
    "outside the lunar module, while Michael Collins stayed in orbit in the command module.",
    "La bibliothèque est ouverte du lundi au vendredi, de neuf heures à dix-huit heures. Les étudiants peuvent "
    "emprunter cinq livres à la fois et les garder pendant trois semaines.",
    "\"I don't think we should go in there,\" whispered Anna. \"Why not?\" asked her brother, already pushing the "
    "heavy door open. \"Because,\" she said, \"the last person who did never came back.\"",
    "# Installation\n\n1. Clone the repository.\n2. Run `cmake -S . -B build` and then `cmake --build build`.\n3. Copy "
    "the binary to a folder in your PATH.\n\n## Usage\n\nRun the program with `--help` to see all of its options.\n",
    "SELECT customers.name, COUNT(orders.id) AS total FROM customers LEFT JOIN orders ON orders.customer_id = "
    "customers.id WHERE orders.created_at >= '2024-01-01' GROUP BY customers.name ORDER BY total DESC;",
    "The right of the people to gather peacefully, to speak freely and to ask their government to put things right is "
    "the foundation of every democracy. It must be protected by law, and by habit, in good times and in bad.",
    "Dear Ms. Howard,\n\nThank you for your letter of 3 March. We are sorry that the parcel arrived late, and have "
    "refunded the cost of delivery to your account. Please let us know if there is anything else we can do.\n\nYours",
    "Gradient descent updates every parameter a little in the direction that lowers the loss. The size of the step is "
    "called the learning rate; when it is too large, training diverges, and when it is too small, it takes forever.",
    "{\"name\": \"Ada Lovelace\", \"born\": 1815, \"fields\": [\"mathematics\", \"computing\"], \"known_for\": \"the "
    "first published algorithm intended for a machine\", \"languages\": [\"English\", \"French\"]}",
]
QUESTIONS = ["What is the capital of France?", "Write one sentence about the sea.",
             "Give me three names for a black cat, and say why each one fits."]


def weft(*arguments, **options):
    done = subprocess.run([WEFT, *map(str, arguments)], text=True, capture_output=True, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def tokenize(model, texts):
    lines = weft("tokenize", model, input="".join(json.dumps({"text": t}) + "\n" for t in texts))
    return [json.loads(line) for line in lines.splitlines()]


def logits_of(model, documents):
    (TEMP / "ids.json").write_text(json.dumps(documents))
    subprocess.run([DUMP, model, TEMP / "ids.json", TEMP / "logits.safetensors", "logits"], check=True)
    return load_file(TEMP / "logits.safetensors")["logits"]


class LlamaCpp:
    def __init__(self, path):
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx = 1024
        params.n_parallel = 1  # prompts one after another, each prefix from the cache of the one before
        params.n_gpu_layers = 0
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
        params.warmup = False
        params.verbosity = -1
        self.server = xllamacpp.Server(params)

    def post(self, path, body):
        request = urllib.request.Request(self.server.listening_address + path, json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def tokenize(self, text):
        return self.post("/tokenize", {"content": text, "add_special": True, "parse_special": True})["tokens"]

    def top_tokens(self, ids):
        """The likeliest next token after each prefix of ids."""
        prefixes = [ids[:n + 1] for n in range(len(ids))]
        out = self.server.handle_completions({"prompt": prefixes, "max_tokens": 1, "temperature": 0, "logprobs": 1})
        choices = sorted(out["choices"], key=lambda choice: choice["index"])
        assert len(choices) == len(ids), out
        return [choice["logprobs"]["content"][0]["top_logprobs"][0]["id"] for choice in choices]

    def chat(self, question, max_tokens):
        """Text and ids of the greedy answer; the ids without the token that ends it."""
        messages = [{"role": "user", "content": question}]
        out = self.server.handle_chat_completions(
            {"messages": messages, "max_tokens": max_tokens, "temperature": 0, "logprobs": True})
        choice = out["choices"][0]
        ids = [token["id"] for token in choice["logprobs"]["content"]]
        prompt = self.tokenize(self.post("/apply-template", {"messages": messages})["prompt"])
        return choice["message"]["content"], ids[:-1] if choice["finish_reason"] == "stop" else ids, len(prompt)


def agreement(logits, theirs):
    """The part of the positions with our top token, and the largest gap of our logits where it is another one."""
    ours = logits.argmax(-1).tolist()
    gaps = [(row[a] - row[b]).item() for row, a, b in zip(logits, ours, theirs) if a != b]
    return 1 - len(gaps) / len(ours), max(gaps, default=0.0)


def compare_chats(llama, model):
    """Greedy answers are equal, or part at a near tie that rounding decides."""
    for question in QUESTIONS:
        ours = json.loads(weft("generate", model, "--prompt", question, "--max-tokens", 48, "--dtype", "fp32", "--json"))
        text, ids, prompt_tokens = llama.chat(question, 48)
        assert prompt_tokens == ours["prompt_tokens"], (question, prompt_tokens, ours)
        shared = next((i for i, (a, b) in enumerate(zip(ids, ours["ids"])) if a != b), min(len(ids), len(ours["ids"])))
        print(f"chat {question!r}: {len(ours['ids'])} tokens,",
              "equal" if text == ours["text"] else f"equal for {shared} tokens: {ours['text']!r} / {text!r}", flush=True)
        if text != ours["text"]:
            prompt = llama.post("/apply-template", {"messages": [{"role": "user", "content": question}]})["prompt"]
            row = logits_of(model, [tokenize(model, [prompt])[0] + ours["ids"][:shared]])[-1]
            best, second = row.topk(2).values.tolist()
            print(f"  our logits of the two likeliest tokens there: {best:.4f} and {second:.4f}")
            assert best - second < 0.05, (question, best, second)


def compare_q8_0():
    path = TEMP / "model-q8_0.gguf"
    weft("export", path, "--format", "gguf:f16", "--out", TEMP / "widened")
    documents = tokenize(path, TEXTS)
    widened = LlamaCpp(TEMP / "widened" / "model-f16.gguf")
    part, gap = agreement(logits_of(path, documents), [token for ids in documents for token in widened.top_tokens(ids)])
    print(f"q8_0, its weights as F16 in llama.cpp: the file's top token in Weft at {part:.2%} ({gap:.3f})", flush=True)
    assert part >= BOUNDS["f16"], part
    if not GSM8K.exists():
        return print(f"skipped: no {GSM8K} (set WEFT_TEST_DATA)")
    records = [json.loads(line) for line in GSM8K.read_text().splitlines()[:12]]
    documents = tokenize(path, [record["question"] + "\n" + record["answer"] for record in records])
    llama = LlamaCpp(path)
    theirs = [token for ids in documents for token in llama.top_tokens(ids)]
    part, gap = agreement(logits_of(path, documents), theirs)
    print(f"q8_0: {len(theirs)} positions of {len(documents)} GSM8K records: the file's top token in Weft at {part:.2%} "
          f"({gap:.3f})", flush=True)
    assert part >= Q8_0_BOUND, part


def main():
    weft("export", GGUF, "--format", "gguf:f16", "--format", "gguf:bf16", "--format", "gguf:q8_0", "--out", TEMP)
    documents = tokenize(GGUF, TEXTS)
    source = logits_of(GGUF, documents)
    for kind, bound in BOUNDS.items():
        path = TEMP / f"model-{kind}.gguf"
        llama = LlamaCpp(path)
        assert [llama.tokenize(text) for text in TEXTS] == documents == tokenize(path, TEXTS), kind
        theirs = [token for ids in documents for token in llama.top_tokens(ids)]
        of_source, gap = agreement(source, theirs)
        of_file, file_gap = agreement(logits_of(path, documents), theirs)
        print(f"{kind}: {len(theirs)} positions of {len(TEXTS)} texts; the top token is that of the exported model at "
              f"{of_source:.2%} (largest gap of logits elsewhere {gap:.3f}), of the file in Weft at {of_file:.2%} "
              f"({file_gap:.3f}); token ids are equal", flush=True)
        if kind == "f16":
            compare_chats(llama, path)
        assert of_source >= bound and of_file >= bound, (kind, of_source, of_file)
    compare_q8_0()


main()
