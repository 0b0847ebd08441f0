# Everything from a fresh clone: `make demo` and `make test`. Needs python3 (3.11), pip, git and make.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Tests use one thread each, so that the processes do not fight for the cores.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test lint types format clean

demo: $(READY)
	$(BIN)/priory fit digits --prior gtm-vamp --latent-dim 16 --grid 20x20 --out runs/demo --resume

test: $(READY)
	$(BIN)/pytest -n 2; quick=$$?; $(BIN)/pytest -n 2 --dist worksteal -m slow && exit $$quick

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV)

# torch comes first and pinned: asked for by another package, the newest build would come with its CUDA libraries.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)
