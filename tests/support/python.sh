#!/usr/bin/env bash
# Runs a script with the Python that has PyTorch (WEFT_PYTHON, made by tests/run.sh --all).
if [ ! -x "${WEFT_PYTHON:-}" ]; then
  echo "no Python with PyTorch: run tests/run.sh --all, or set WEFT_PYTHON"
  exit 77
fi
exec "$WEFT_PYTHON" "$@"
