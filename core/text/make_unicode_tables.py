#!/usr/bin/env python3
"""Writes unicode_tables.cc: where Hugging Face's tokenizers and the libraries of our systems know different Unicodes.

usage: python3 make_unicode_tables.py > unicode_tables.cc && clang-format -i unicode_tables.cc
needs: pip install tokenizers==0.23.3 unicodedata2==18.0.0; perl >= 5.32 (for the age of characters)

Oniguruma in tokenizers 0.23.3 has the categories of Unicode 16; PCRE2 10.39 (Ubuntu 22.04) those of 13, 10.42 of 14. Its
normal forms are those of Unicode 9; utf8proc's are of 14 and newer.
"""
import subprocess

import tokenizers
import unicodedata2
from tokenizers import Regex, normalizers, pre_tokenizers

ALL = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
TEXT = "".join(map(chr, ALL))


def ranges(code_points):
    out = []
    for c in sorted(code_points):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def category(name):
    keep = pre_tokenizers.Split(Regex(r"[^\p{%s}]+" % name), "removed")
    return {ord(c) for piece, _ in keep.pre_tokenize_str(TEXT) for c in piece}


def numeric():
    digits = pre_tokenizers.Digits(individual_digits=True)
    return {ord(p) for p, _ in digits.pre_tokenize_str("a".join(map(chr, ALL))) if len(p) == 1 and p != "a"} - {
        c for c in ALL if unicodedata2.category(chr(c))[0] != "N"}


def old_characters():
    script = r'for my $c (0..0x10FFFF){ next if $c>=0xD800&&$c<0xE000; print "$c\n" if chr($c)=~/\p{Present_In: 13.0}/ }'
    return set(map(int, subprocess.run(["perl", "-e", script], stdout=subprocess.PIPE, check=True).stdout.split()))


def inert():
    """Characters with a decomposition or a combining class, of which tokenizers' normal forms know neither."""
    nfd, nfkd = normalizers.NFD(), normalizers.NFKD()
    out = set()
    for c in ALL:
        char = chr(c)
        mark, decomposes = unicodedata2.combining(char), unicodedata2.decomposition(char)
        if mark and nfd.normalize_str("a\u0345" + char + "\u0334\u0345") != unicodedata2.normalize("NFD", "a\u0345" + char + "\u0334\u0345"):
            out.add(c)
        if decomposes and nfkd.normalize_str(char) == char:
            out.add(c)
            if not decomposes.startswith("<"):  # what composes to it must not
                out.add(int(decomposes.split()[0], 16))
    return out


def table(name, code_points):
    print(f"constexpr CodePointRange {name}[] = {{")
    print(", ".join(f"{{0x{a:X}, 0x{b:X}}}" for a, b in ranges(code_points)))
    print("};\n")


def main():
    old = old_characters()
    print(f"// Made by make_unicode_tables.py with tokenizers {tokenizers.__version__} and Unicode {unicodedata2.unidata_version}. Do not edit.")
    print('#include "core/text/unicode_tables.h"\n\nnamespace weft::text {\nnamespace {\n')
    names = dict(L="kLetters", M="kMarks", N="kNumbers", P="kPunctuation", S="kSymbols")
    for letter, name in names.items():
        table(name, category(letter) - old)
    table("kNumeric", numeric() - old)
    table("kInert", inert())
    print("}  // namespace\n\nstd::span<const CodePointRange> newer_members(char category) {\n  switch (category) {")
    for letter, name in names.items():
        print(f"    case '{letter}': return {name};")
    print("    default: return {};\n  }\n}\n")
    print("std::span<const CodePointRange> newer_numeric() { return kNumeric; }")
    print("std::span<const CodePointRange> inert_in_normal_forms() { return kInert; }\n\n}  // namespace weft::text")


main()
