#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# On a machine with an NVIDIA GPU: check the Triton kernels there, then take every figure of
# docs/performance.md that a GPU gives. `python benchmarks/render.py` writes the tables again.
set -euo pipefail
cd "$(dirname "$0")"
mkdir -p results
python=${PYTHON:-../.venv/bin/python}
"$python" -m pytest ../tests/gpu

bench() {
  local name=$1
  shift
  "$python" -m slideformer bench "$@" --device cuda --dtype bfloat16 --markdown --json "results/gpu-$name.json"
}

bench operator-56-forward operator --batch 64
bench operator-56-backward operator --batch 64 --work backward
bench plain-56-forward operator --batch 64 --plain
bench neighborhood-56-forward operator --batch 64 --plain --border clamp --kernel-size 7 --heads 2
bench model-forward model --batch 64 --only swin
bench model-step model --batch 64 --only swin --work step
bench scaling operator --batch 1 --size 14 28 56 112 224 512 1024 2048 --plot results/gpu-scaling.png
# Last, because compiling takes minutes.
bench model-forward-compiled model --batch 64 --compile --only swin
bench model-step-compiled model --batch 64 --compile --only swin --work step
