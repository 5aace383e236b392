"""What the comparisons with other programs share: where things are, and when to skip."""
import importlib.util, os, pathlib, sys

ROOT = pathlib.Path(os.environ.get("WEFT_SOURCE_DIR", pathlib.Path(__file__).parents[2]))
WEFT = pathlib.Path(os.environ.get("WEFT_BINARY", ROOT / "build" / "weft"))
PROGRAMS = WEFT.parent / "tests"  # the drivers: what each .cc file beside this one is built to
DATA = pathlib.Path(os.environ.get("WEFT_TEST_DATA", ROOT.parent / "shared" / "data"))
SMOLLM2 = os.environ.get("WEFT_SMOLLM2")  # SmolLM2-135M-Instruct, a .gguf


def skip(reason):
    print("skipped:", reason)
    sys.exit(77)


def skip_without(*modules):
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        skip(f"no Python package {', '.join(missing)} (tests/requirements.txt)")


def real_models():
    """stories260K and SmolLM2, where they are; a line about each that is not."""
    stories = DATA / "models" / "stories260K-hf"
    for name, path, wanted in [("stories260K", stories, "WEFT_TEST_DATA"), ("SmolLM2", SMOLLM2, "WEFT_SMOLLM2, a .gguf")]:
        if path and pathlib.Path(path).exists():
            yield pathlib.Path(path)
        else:
            print(f"left out: {name} (set {wanted})")
