#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Exported models in their own runtimes, and every family in every runtime, on a CPU with nothing else running.
# Exports take most of the time, about an hour; what was exported of the same commit is used again, so that
# an interrupted run goes on where it was. `python benchmarks/render.py` then writes the tables of docs/deploy.md.
set -euo pipefail
cd "$(dirname "$0")"
mkdir -p results
keep=../runs/exported-$(git rev-parse --short HEAD)

bench() {
  local name=$1
  shift
  # RUN may hold a command to run each benchmark under.
  ${RUN:-} "${PYTHON:-../.venv/bin/python}" -m slideformer bench deploy "$@" --keep "$keep" --markdown \
    --json "results/deploy-$name.json"
}

bench size
bench accuracy --equal-accuracy
bench forms --forms
cd ..
families() {
  "${PYTHON:-.venv/bin/python}" -m tests.deploy.every_family --to "${@:2}" --json "benchmarks/results/deploy-$1.json"
}

families families onnx openvino executorch coreml torch
families coreai coreai
