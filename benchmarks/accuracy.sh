#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every figure of docs/accuracy.md; about six hours on two cores. It goes on where it was stopped.
#   benchmarks/accuracy.sh DIR    where DIR is the folder of Fashion-MNIST
# `python benchmarks/render.py` then writes the tables again.
set -euo pipefail
data=$(realpath "$1")
cd "$(dirname "$0")"
mkdir -p results ../runs

for study in rates ablation warm-start recipe; do
  ${RUN:-} "${PYTHON:-../.venv/bin/python}" -m slideformer bench accuracy "$study" --root "$data" \
    --output ../runs/accuracy --json "results/accuracy-$study.json" --plot "../docs/images/accuracy-$study.png"
done
