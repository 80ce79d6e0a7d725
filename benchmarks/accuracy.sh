#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every figure of docs/accuracy.md; about four hours on two cores. It goes on where it was stopped.
#   benchmarks/accuracy.sh DIR    where DIR is the folder of Fashion-MNIST
# `python benchmarks/render.py` then writes the tables again.
set -euo pipefail
data=$(realpath "$1")
cd "$(dirname "$0")"
mkdir -p results ../runs

study() {
  local name=$1
  shift
  ${RUN:-} "${PYTHON:-../.venv/bin/python}" -m slideformer bench accuracy "$name" --root "$data" \
    --output ../runs/accuracy --json "results/accuracy-$name.json" "$@"
}

study rates
study ablation --rounds 30 --plot ../docs/images/accuracy-ablation.png
study warm-start --plot ../docs/images/accuracy-warm-start.png
study recipe
