#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every figure of docs/performance.md and docs/patterns.md that a CPU gives; about 45 minutes with nothing
# else running.
# `python benchmarks/render.py` then writes the tables again.
set -euo pipefail
cd "$(dirname "$0")"
mkdir -p results

measure() {
  local name=$1
  shift
  # RUN may hold a command to run each benchmark under.
  ${RUN:-} "${PYTHON:-../.venv/bin/python}" -m slideformer "$@" --markdown --json "results/$name.json"
}

bench() {
  local name=$1
  shift
  measure "$name" bench "$@"
}

operators() {
  local isa=$1
  bench "operator-56-forward-$isa" operator
  bench "operator-28-forward-$isa" operator --size 28 --heads 6
  bench "operator-56-backward-$isa" operator --work backward
  bench "operator-28-backward-$isa" operator --work backward --size 28 --heads 6
}

operators native
bench plain-56-forward operator --plain
bench neighborhood-56-forward operator --plain --border clamp --kernel-size 7 --heads 2 --rounds 5
# Maps of other axes, without the forms that copy each window.
axes() {
  bench "$@" --plain --border clamp --batch 1 --heads 2 --rounds 5 --only cpu matmul tenth halves NATTEN attention
}

axes axes-1-forward operator --axes 1 --size 131072 256x512 --kernel-size 13 1x13
OMP_NUM_THREADS=1 axes axes-1-forward-1-thread operator --axes 1 --size 131072 256x512 --kernel-size 13 1x13
axes axes-3-forward operator --size 16x56x56 224x224 --kernel-size 3x3x3 5
bench layer-forward layer
bench layer-step layer --work step
bench model-forward model
bench model-step model --work step --rounds 5
bench scaling operator --batch 1 --size 14 28 56 112 224 512 1024 --rounds 3 --plot results/scaling.png \
  --only cpu matmul authors F.unfold
bench hosts-forward hosts --rounds 5
bench detector-step detector --work step --rounds 3
bench predict-512 predict --rounds 3
measure compare-56 compare --plot ../docs/images/patterns.png
# The same machine as if it had no AVX-512.
export ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 ONEDNN_MAX_CPU_ISA=AVX2 SLIDEFORMER_CPU_ISA=avx2
operators avx2
