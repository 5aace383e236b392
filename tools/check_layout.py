#!/usr/bin/env python3
"""Checks the rules that a compiler does not: who may include whom, file sizes, where heavy headers,
the environment and exit() may be used, and the formatter. docs/architecture.md explains them.

    tools/check_layout.py [ROOT]     # prints what is wrong; exit status 1 if anything is
    tools/check_layout.py --fix      # formats first
"""
import os
import re
import shutil
import subprocess
import sys

FIX = "--fix" in sys.argv
ROOTS = [argument for argument in sys.argv[1:] if argument != "--fix"]
ROOT = os.path.abspath(ROOTS[0] if ROOTS else os.path.join(os.path.dirname(__file__), ".."))
SOURCES = (".cc", ".cu")
HEADERS = (".h", ".cuh")

# folder -> folders that it may include besides itself
FLOORS = {
    "core": [],
    "kernels": ["core"],
    "optim": ["core"],
    "parallel": ["core"],
    "checkpoint": ["core", "parallel"],
    "recipes": ["core", "optim", "parallel", "checkpoint"],
    "launch": ["core", "optim", "parallel", "checkpoint", "recipes"],
}
# room of core/ -> rooms that it may include besides itself
ROOMS = {
    "base": [],
    "tensor": ["base"],
    "ops": ["base", "tensor"],
    "nn": ["base", "tensor", "ops", "telemetry"],
    "models": ["base", "tensor", "ops", "nn", "telemetry"],
    "text": ["base"],
    "data": ["base", "tensor", "ops", "text", "nn"],
    "telemetry": ["base", "tensor"],
}
# header pattern -> the only files or folders that may include it
HEAVY = {
    r"nlohmann/": ["core/base/json.cc"],
    r"spdlog/": ["core/base/log.cc"],
    r"CLI/": ["launch/cli.cc", "launch/cli_options.cc"],
    r"yaml-cpp/": ["core/base/config_yaml.cc"],
    r"cudnn_frontend": ["kernels/cuda/"],
    r"mpi\.h": ["parallel/"],
    r"hdf5": ["core/base/hdf5.h"],
    r"core/base/hdf5\.h": ["core/base/hdf5.cc", "core/data/hdf5_", "checkpoint/native_hdf5.cc"],
    r"(oneapi/dnnl/)?dnnl": ["kernels/cpu/"],
    r"Eigen/": ["kernels/cpu/", "core/"],
    r"(cuda|cublas|cudnn|nccl)": ["kernels/cuda/", "parallel/nccl", "core/tensor/cuda"],
}
# code pattern -> (folders that may use it, what to do instead)
WORDS = {
    r"\bgetenv\s*\(": (["launch/", "tests/"], "read the environment in launch/ only"),
    r"\b(_?exit|quick_exit|abort)\s*\((?!int )": (
        ["launch/", "tests/", "parallel/"], "throw Error; only launch/ ends the process"),
}
MAX_HEADER, MAX_SOURCE, SOFT_SOURCE, MAX_FUNCTION = 120, 600, 400, 60


def files():
    """Paths, relative to the root, of all C++ and CUDA files."""
    for folder in [*FLOORS, "tests", "tools"]:
        for where, _, names in os.walk(os.path.join(ROOT, folder)):
            for name in sorted(names):
                if name.endswith(SOURCES + HEADERS):
                    yield os.path.relpath(os.path.join(where, name), ROOT)


def check_include(path, included, quoted):
    """What is wrong with one #include, or None."""
    top = path.split("/")[0]
    for pattern, allowed in HEAVY.items():
        if re.match(pattern, included) and quoted == included.startswith("core/"):
            named = any(path.startswith(place) for place in allowed if place.endswith((".h", "_")))
            placed = any(path.startswith(place) for place in allowed)
            if not placed or path.endswith(".h") and not named:
                return f"<{included}> belongs into {', '.join(allowed)} only, and into no other header"
    if not quoted or top in ("tests", "tools"):
        return None
    other = included.split("/")[0]
    if other not in FLOORS:
        return f'"{included}": include from the repository root'
    if other != top and other not in FLOORS[top]:
        return f"{top}/ may not include {other}/ ({included})"
    if top == other == "core":
        room, other_room = path.split("/")[1], included.split("/")[1]
        if other_room != room and other_room not in ROOMS.get(room, []):
            return f"core/{room}/ may not include core/{other_room}/ ({included})"
    return None


def without_comments(text):
    """The code with comments and string literals blanked, line by line as before."""
    token = r'R"\((?:.|\n)*?\)"|"(?:\\.|[^"\\\n])*"|//[^\n]*|/\*(?:.|\n)*?\*/'
    blank = lambda match: re.sub(r"[^\n]", " ", match.group())
    return re.sub(token, blank, text)


def long_functions(lines):
    """(first line, length) of blocks at namespace level that are functions and too long."""
    start = None
    for number, line in enumerate(lines, 1):
        if re.match(r"^[A-Za-z_~].*", line) and not line.startswith("namespace"):
            start = start or number
        if line.startswith("}") or line.endswith(";") and not line.startswith(" "):
            if start and line == "}" and number - start + 1 > MAX_FUNCTION:
                yield start, number - start + 1
            start = None


def check_file(path, errors, notes):
    text = open(os.path.join(ROOT, path), encoding="utf-8").read()
    lines = text.splitlines()
    header = path.endswith(HEADERS)
    tested = path.startswith("tests/")
    # A .cuh holds kernels, which are templates: code, not declarations.
    limit = MAX_HEADER if header and not tested and not path.endswith(".cuh") else MAX_SOURCE
    if len(lines) > limit:
        errors.append(f"{path}: {len(lines)} lines, at most {limit}: split it by noun")
    elif not header and len(lines) > SOFT_SOURCE:
        notes.append(f"{path}: {len(lines)} lines, better at most {SOFT_SOURCE}")
    # kernels/cpu/for_each_isa.h compiles these once for every instruction set.
    repeated = path.startswith("kernels/") and (path.endswith("simd.h") or "for_each_isa" in path)
    if header and "#pragma once" not in text and not repeated:
        errors.append(f"{path}: no #pragma once")
    if text and not text.endswith("\n"):
        errors.append(f"{path}: no newline at its end")

    for number, line in enumerate(lines, 1):
        match = re.match(r'\s*#\s*include\s*([<"])([^>"]+)', line)
        problem = match and check_include(path, match.group(2), match.group(1) == '"')
        if problem:
            errors.append(f"{path}:{number}: {problem}")
    code = without_comments(text).splitlines()
    for number, line in enumerate(code, 1):
        for pattern, (allowed, advice) in WORDS.items():
            called = re.search(r"(?<![.>:\w])(std::|::)?" + pattern, line)
            if called and not any(path.startswith(place) for place in allowed):
                errors.append(f"{path}:{number}: '{line.strip()}': {advice}")
    for number, (line, behind) in enumerate(zip(code, code[1:]), 1):
        # Where the condition of an `if constexpr` is false, nvcc 13.0 drops the statement behind its loop too.
        if re.match(r"\s*(}?\s*else|.*\bif\b.*\))\s*$", line) and behind.lstrip().startswith("#pragma unroll"):
            errors.append(f"{path}:{number}: '{line.strip()}': braces around what #pragma unroll begins")
    for number, length in long_functions(code):
        notes.append(f"{path}:{number}: a function of {length} lines, better at most {MAX_FUNCTION}")


def check_own_header_first(path, errors):
    stem, extension = os.path.splitext(path)
    own = stem + ".h"
    if extension not in SOURCES or not os.path.exists(os.path.join(ROOT, own)):
        return
    for line in open(os.path.join(ROOT, path), encoding="utf-8"):
        if line.startswith("#include"):
            if own not in line:
                errors.append(f'{path}: includes {line.split()[1]} before its own header "{own}"')
            return


def check_format(paths, errors, notes):
    """The formatter's versions disagree, so only the one of Debian 12 and Ubuntu 22.04 counts."""
    for tool in ("clang-format-14", "clang-format"):
        if shutil.which(tool) and " 14." in subprocess.check_output([tool, "--version"], text=True):
            break
    else:
        message = "formatting not checked: clang-format 14 is not installed"
        required = os.environ.get("WEFT_REQUIRE_FORMAT") == "1"
        (errors if required and not shutil.which("clang-format") else notes).append(message)
        return
    if FIX:
        subprocess.run([tool, "-i", *(os.path.join(ROOT, path) for path in paths)], check=True)
    bad = []
    for path in paths:
        full = os.path.join(ROOT, path)
        formatted = subprocess.run([tool, full], capture_output=True, text=True, cwd=ROOT)
        if formatted.stdout != open(full, encoding="utf-8").read():
            bad.append(path)
    errors.extend(f"{path}: not formatted (clang-format -i {path})" for path in bad)


def main():
    errors, notes = [], []
    paths = list(files())
    if not paths:
        errors.append("no source files found: the check looked in the wrong place")
    for path in paths:
        check_file(path, errors, notes)
        check_own_header_first(path, errors)
    check_format(paths, errors, notes)
    for note in notes:
        print(f"note: {note}")
    for error in errors:
        print(error)
    print(f"{len(paths)} files, {len(errors)} errors, {len(notes)} notes")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
