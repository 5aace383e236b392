#!/usr/bin/env bash
# Writes a labelled set that every Debian or Ubuntu machine has: package name and description -> section.
#
#   launch/debian_sections.sh TRAIN.jsonl HELD_OUT.jsonl
#
# One record a package: {"text": "<name>: <first 240 characters of the description>", "label": "<section>"}.
# Sections that say how a package is built rather than what it is for are left out. Every hundredth package
# (by name) is held out.
set -euo pipefail
train=${1:?usage: debian_sections.sh TRAIN.jsonl HELD_OUT.jsonl} held_out=${2:?}

apt-cache dumpavail | awk -v RS= -F'\n' '
  {
    name = section = text = ""
    for (i = 1; i <= NF; i++) {
      if ($i ~ /^Package: /) name = substr($i, 10)
      else if ($i ~ /^Section: /) section = substr($i, 10)
      else if ($i ~ /^Description(-en)?: / && text == "") text = substr($i, index($i, ": ") + 2)
    }
    sub(/^.*\//, "", section)  # universe/net
    if (name == "" || section == "" || text == "") next
    if (section ~ /^(debug|oldlibs|metapackages|misc|localization|doc|libdevel|introspection)$/) next
    line = name ": " substr(text, 1, 240)
    gsub(/\\/, "\\\\", line); gsub(/"/, "\\\"", line); gsub(/[\001-\037]/, " ", line)
    printf "%s\t{\"text\": \"%s\", \"label\": \"%s\"}\n", name, line, section
  }' | LC_ALL=C sort -t$'\t' -k1,1 -u | cut -f2- |
  awk -v train="$train.part" -v held_out="$held_out.part" \
    '{ print > (NR % 100 == 0 ? held_out : train) }'

if ! [ -s "$train.part" ] || ! [ -s "$held_out.part" ]; then
  echo "debian_sections.sh: apt-cache knows no packages: run 'apt-get update' first" >&2
  exit 66
fi
mv "$train.part" "$train"
mv "$held_out.part" "$held_out"
