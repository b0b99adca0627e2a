# Every target sets up what it needs in .venv, from the locked versions.
PYTHON ?= python3
# The index of CPU builds of torch, for machines whose pip finds none.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: serve test lint bench congruence train-deps lock clean help

help:
	@echo "make serve       set up the environment and start the service on http://localhost:8000"
	@echo "make test        set up the environment, with torch where possible, and run the tests"
	@echo "make lint        check style with ruff and types with mypy --strict"
	@echo "make bench       run the slow tests and the measurements; fails if a floor is missed"
	@echo "make congruence  compare an index in Milvus with the embedded one, and kill its server"
	@echo "make train-deps  install a CPU build of torch, to train the nets"
	@echo "make lock        resolve the locked versions again (needs uv)"
	@echo "make clean       remove the environment and the caches of the tools"

serve: $(VENV)/.serve
	$(BIN)/bitcell serve

# There is a test process for each core. More threads of OpenBLAS would wait for each other, and spin
# while they wait; tests of several threads set their number themselves. The processes that tests start
# read compiled modules, even where the environment tells Python to write none.
TEST_ENV := OPENBLAS_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=

# Where torch cannot be installed, the tests that need it are skipped; with CI=true that is a failure.
test: $(VENV)/.dev
	@$(MAKE) --no-print-directory train-deps || \
	  echo "A CPU build of torch could not be installed: the tests that need it are skipped." >&2
	$(TEST_ENV) $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev train-deps
	$(BIN)/python -m pytest -m slow
	$(BIN)/python -m bench

congruence: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow tests/index/milvus

train-deps: $(VENV)/.train

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12" >&2; exit 1; }
	@echo "Setting up $(VENV) from the locked versions. This takes about a minute, once."
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

# torch comes alone, from the sources that pip is configured with or else from the index of CPU
# builds. What it needs comes from the configured sources only.
TORCH := install --quiet --no-deps --require-hashes -r requirements-torch.txt
$(VENV)/.train: requirements-torch.txt requirements-train.txt $(VENV)/.serve
	$(PIP) $(TORCH) || { echo "Trying $(TORCH_INDEX) instead." >&2; \
	  $(PIP) $(TORCH) --index-url $(TORCH_INDEX); }
	$(PIP) install --quiet --require-hashes -r requirements-train.txt
	@touch $@

LOCK := uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest \
  --no-emit-index-url --no-header --no-annotate --generate-hashes
lock:
	$(LOCK) pyproject.toml -o requirements.txt
	$(LOCK) pyproject.toml --extra servers -c requirements.txt -o requirements-servers.txt
	$(LOCK) pyproject.toml --group dev -c requirements-servers.txt -o requirements-dev.txt
	$(LOCK) --group torch -c requirements-dev.txt -o requirements-train.txt

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
