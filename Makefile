# Everything from a fresh clone: `make demo` and `make test`. Needs python3 (3.11), pip, git and make.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Tests use one thread each, so that the processes do not fight for the cores.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test lint types package docs newest format clean

demo: $(READY)
	$(BIN)/priory fit digits --prior gtm-vamp --out runs/demo --resume

test: $(READY)
	$(BIN)/pytest -n 2 --dist worksteal; quick=$$?; $(BIN)/pytest -n 2 --dist worksteal -m slow && exit $$quick

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

# What a package index would be given: it builds, and its metadata and contents are right.
package: $(READY)
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl

# The site, docs/_build/html/index.html. Warnings are errors, so a dead link is one. The tutorials run, and run again only
# if their code has changed; PRIORY_DOCS_EXECUTE=off shows them without outputs, PRIORY_DOCS_EXECUTE=one runs one.
docs: $(READY)
	$(BIN)/python -m sphinx -W --keep-going --quiet -b html docs docs/_build/html

# What pip installs for a user today: the newest release of everything but torch, whose newest comes with CUDA libraries.
# Without anndata, whose newest for some versions of Python keeps pandas at 2.
newest:
	rm -rf $(VENV)-newest
	$(PYTHON) -m venv $(VENV)-newest
	$(VENV)-newest/bin/python -m pip install --quiet --constraint constraints.txt torch
	$(VENV)-newest/bin/python -m pip install --quiet '.[cli,scale]' beartype hypothesis pytest pytest-xdist
	$(VENV)-newest/bin/python -m pip list
	$(VENV)-newest/bin/pytest -n 2 tests/test_imports.py tests/test_mixture.py tests/test_priors.py tests/test_vae.py \
	  tests/test_objectives.py tests/test_datasets.py tests/test_datasets_writers.py tests/test_reading.py tests/test_gtm.py \
	  tests/test_gtm_dask.py
	$(VENV)-newest/bin/priory fit digits --epochs 2 --out $(VENV)-newest/run
	rm -rf $(VENV)-newest

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(VENV)-newest dist docs/_build docs/_generated

# torch comes first and pinned: asked for by another package, the newest build would come with its CUDA libraries.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,docs]'
	touch $(READY)
