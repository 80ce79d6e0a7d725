# SPDX-License-Identifier: Apache-2.0
# Everything from a bare checkout: the environment is made when it is first needed.

PYTHON ?= python3
WORKERS ?= 2
# Of the page that `make playground` serves.
PORT ?= 8000
BIN := .venv/bin
READY := .venv/.ready-dev
READY_FOR_DEMO := .venv/.ready-demo
READY_FOR_DOCS := .venv/.ready-docs
# Each worker computes with one thread.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

.PHONY: help demo demo-detect demo-segment test test-all test-rest lint format types docs dist web playground clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: $(READY_FOR_DEMO)  ## train, evaluate, merge, export and draw on handwritten digits (about 4 minutes)
	$(BIN)/slideformer demo --output runs/demo

demo-detect: $(READY_FOR_DEMO)  ## train a Mask R-CNN on generated scenes, evaluate and draw (about 9 minutes)
	$(BIN)/slideformer demo detect --output runs/demo-detect

demo-segment: $(READY_FOR_DEMO)  ## train a Semantic FPN on generated scenes, evaluate and draw (about 9 minutes)
	$(BIN)/slideformer demo segment --output runs/demo-segment

test: $(READY)  ## run the fast tests: every operator and layer, one of each export and training
	$(PYTEST) -m "not slow"

test-all: $(READY)  ## run all tests
	$(PYTEST)

test-rest: $(READY)  ## run the tests that `make test` leaves out
	$(PYTEST) -m slow

lint: $(READY)  ## check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)  ## fix style and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(READY)  ## check types
	$(BIN)/mypy
	cd runtime && ../$(BIN)/mypy

docs: $(READY_FOR_DOCS)  ## build the documentation site into build/docs; every warning is an error
	$(BIN)/python -m sphinx -W --keep-going -n -b html docs build/docs

dist: $(READY)  ## build the wheel and the source distribution
	$(BIN)/python -m build

web:  ## fetch what the page in web/ needs; serve it by python3 -m http.server -d web
	npm ci --prefix web
	npm run --prefix web copy

playground: $(READY_FOR_DEMO)  ## look inside the demo's model in the browser, on localhost (needs npm)
	test -e runs/demo/model.safetensors || $(MAKE) demo
	$(BIN)/slideformer export runs/demo --to onnx --with attention --output web/model.onnx
	$(MAKE) web
	@echo "open http://localhost:$(PORT); Ctrl-C ends it"
	$(PYTHON) -m http.server --bind localhost --directory web $(PORT)

clean:  ## remove the environment and what was built
	rm -rf .venv dist build

# The environment, with an extra of pyproject.toml: everything for the tests, less for demos and docs.
.venv/.ready-%: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$*]'
	touch $@
