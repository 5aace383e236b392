#!/usr/bin/env bash
# Weft's quick start: on a bare Debian or Ubuntu machine, from a fresh clone.
#
#   launch/quickstart.sh
#
# Installs the distribution's packages, builds, fetches a small real model and a labelled data set, measures the
# base model, fine-tunes it with LoRA on two ranks, measures again, exports, and lets the export answer.
# Run again, it goes on where it stopped, or says that all is done. Where nvcc and an NVIDIA GPU are, it
# builds for the GPU and uses one.
#
#   WEFT_MODEL=FILE_OR_DIR   use this model (a .gguf file, or a Hugging Face folder)
#   WEFT_DATA=FILE           use these records (JSONL with text and label); every hundredth is held out
set -euo pipefail
cd "$(dirname "$0")/.."
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_btl_vader_single_copy_mechanism=none  # containers often forbid the other one

say() { printf '\n== %s  [%d:%02d]\n' "$1" $((SECONDS / 60)) $((SECONDS % 60)); }
run=runs/quickstart

export PATH=$PATH:/usr/local/cuda/bin  # where NVIDIA's packages put nvcc
preset=cpu folder=build ranks=2
options=(-DWEFT_TESTS=OFF)
if command -v nvcc >/dev/null && nvidia-smi -L 2>/dev/null | grep '^GPU' >/dev/null; then
  preset=cuda folder=build-cuda ranks=1
  gpus=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | sort -u | sed 's/\.//; s/$/-real/' | paste -sd ';')
  options+=("-DWEFT_CUDA_ARCHITECTURES=$gpus")
fi
weft=$folder/weft

say "1/7  packages of the distribution"
launch/install_deps.sh build quickstart
[ $preset = cpu ] || launch/install_deps.sh cuda

say "2/7  build (preset $preset)"
[ -f $folder/build.ninja ] || cmake --preset $preset "${options[@]}" >/dev/null
cmake --build $folder --target weft

say "3/7  model and data"
mkdir -p models data
model=${WEFT_MODEL:-models/SmolLM2-135M-Instruct.Q4_1.gguf}
[ -n "${WEFT_MODEL:-}" ] || launch/fetch_smollm2.sh
[ -e "$model" ] || { echo "quickstart: WEFT_MODEL=$model does not exist" >&2; exit 66; }
train=data/packages_train.jsonl held_out=data/packages_held_out.jsonl
if [ -n "${WEFT_DATA:-}" ]; then
  awk -v t="$train" -v h="$held_out" '{ print > (NR % 100 == 0 ? h : t) }' "$WEFT_DATA"
elif [ ! -s "$held_out" ]; then
  launch/debian_sections.sh "$train" "$held_out"
fi
echo "model: $model; records: $(wc -l <"$train") to train on, $(wc -l <"$held_out") held out"

eval_on_held_out() { $weft eval "$1" "$held_out" --config configs/quickstart.yaml --json; }
figure() { sed -n "s/.*\"$2\": \([0-9.e-]*\).*/\1/p" "$1"; }
mkdir -p "$run"

say "4/7  the base model on held-out records"
[ -s "$run/base.json" ] || eval_on_held_out "$model" >"$run/base.json.part"
[ -s "$run/base.json" ] || mv "$run/base.json.part" "$run/base.json"
cat "$run/base.json"

say "5/7  fine-tune with LoRA on $([ $ranks = 2 ] && echo 'two ranks' || echo 'a GPU') (at most 5 minutes)"
mpirun -np $ranks $weft train configs/quickstart.yaml "model.path=$model"

say "6/7  the fine-tuned model on the same records"
eval_on_held_out "$run" >"$run/tuned.json"
cat "$run/tuned.json"

say "7/7  export, and let the export answer"
$weft export "$run" --format hf --format peft --format gguf:q8_0 --overwrite
record=$(head -n 1 "$held_out")
prompt=$(sed 's/^{"text": "\(.*\)", "label": .*/\1/; s/\\"/"/g; s/\\\\/\\/g' <<<"$record")
echo "asked:    $prompt"
echo "expected: $(sed 's/.*"label": "\([^"]*\)".*/\1/' <<<"$record")"
printf 'answered: '
$weft generate "$run/export/model-q8_0.gguf" --prompt "$prompt" --max-tokens 12

percent() { awk -v a="$(figure "$1" accuracy)" -v l="$(figure "$1" accuracy_low)" -v h="$(figure "$1" accuracy_high)" \
  'BEGIN { printf "%5.1f %%  (95 %% interval %.1f to %.1f %%)", 100 * a, 100 * l, 100 * h }'; }
printf '\nGreedy answers that name the right section, on %s held-out records:\n' "$(figure "$run/tuned.json" labelled)"
printf '  base model   %s\n  fine-tuned   %s\n' "$(percent "$run/base.json")" "$(percent "$run/tuned.json")"
printf 'All took %d min %02d s.\n' $((SECONDS / 60)) $((SECONDS % 60))

bound=${WEFT_QUICKSTART_BOUND:-0.70}
if awk -v a="$(figure "$run/tuned.json" accuracy)" -v b="$bound" 'BEGIN { exit !(a < b) }'; then
  echo "quickstart: the accuracy is below $bound: on a slow machine train longer (train.max_time=20min)" >&2
  exit 1
fi
