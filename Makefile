# `make serve` and `make test` do all their set-up in .venv, from locked versions.
PYTHON ?= python3
# Where CPU builds of torch lie for those whose pip does not know one already.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: serve test lint bench train-deps lock clean help

help:
	@echo "make serve       set up and start the service with the demo collection"
	@echo "make test        set up and run the tests"
	@echo "make lint        ruff and mypy --strict"
	@echo "make bench       measure, and fail where a stated floor is missed"
	@echo "make train-deps  add a CPU build of torch, for training nets; make test tries to"
	@echo "make lock        resolve the locked versions again (needs uv)"

serve: $(VENV)/.serve
	$(BIN)/bitcell serve

# Without torch the tests of trained nets are skipped; a machine that has none for us tests the rest.
test: $(VENV)/.dev
	@$(MAKE) --no-print-directory train-deps || \
	  echo "No CPU build of torch could be installed: going on without, tests that need it are skipped." >&2
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev train-deps
	$(BIN)/python -m pytest -m slow
	$(BIN)/python -m bench

train-deps: $(VENV)/.train

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12" >&2; exit 1; }
	@echo "Setting up $(VENV) from the locked versions: about a minute, once."
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.serve: requirements.txt pyproject.toml client/pyproject.toml | $(VENV)/.python
	$(PIP) install --quiet --require-hashes -r requirements.txt
	$(PIP) install --quiet --no-deps -e . -e ./client
	@touch $@

$(VENV)/.dev: requirements-dev.txt pyproject.toml client/pyproject.toml | $(VENV)/.python
	$(PIP) install --quiet --require-hashes -r requirements-dev.txt
	$(PIP) install --quiet --no-deps -e . -e ./client
	@touch $@ $(VENV)/.serve

# A build that this machine's pip already finds comes first; the index is for the rest.
$(VENV)/.train: requirements-train.txt $(VENV)/.serve
	$(PIP) install --quiet -r requirements-train.txt || \
	  $(PIP) install --quiet --extra-index-url $(TORCH_INDEX) -r requirements-train.txt
	@touch $@

LOCK := uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest \
  --no-emit-index-url --no-header --no-annotate pyproject.toml
lock:
	$(LOCK) --generate-hashes -o requirements.txt
	$(LOCK) --generate-hashes --group dev -c requirements.txt -o requirements-dev.txt

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
