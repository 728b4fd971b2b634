# `make book` and `make test` need only Python 3.11+ and make: the first call sets up .venv from requirements.lock.
PYTHON ?= python3
LIVE ?= 1
PROFILE ?= best
TRAIN ?= 0

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.PHONY: help book test lint bench faults lab clean
.DEFAULT_GOAL := help

help: ## Show this list
	@echo "Imbalanced image classification, re-run. Commands:"
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1|\2/' | awk -F '|' '{ printf "%-12s  %s\n", $$1, $$2 }'
	@echo "Settings: make book LIVE=$(LIVE) PROFILE=$(PROFILE) TRAIN=$(TRAIN); any target takes PYTHON=python3.12"

# The lock and the package's declaration decide whether the environment is up to date. uv lives in a folder of its
# own, because `uv pip sync` removes from .venv whatever the lock does not name.
$(READY): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "error: no $(PYTHON) on the path; install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || { echo "error: $$($(PYTHON) --version) does not do: this project needs Python 3.11, 3.12 or 3.13; name one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "error: $(PYTHON) lacks the venv module; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "setting up $(VENV) from requirements.lock (once, until the lock changes)"
	$(PYTHON) -m venv $(VENV)
	$(PYTHON) -m venv $(VENV)/tools
	sed -n '/^uv==/,/# via/p' requirements.lock > $(VENV)/tools/uv.txt
	$(VENV)/tools/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/tools/uv.txt
	$(VENV)/tools/bin/uv pip sync --python $(BIN)/python --require-hashes requirements.lock
	$(VENV)/tools/bin/uv pip install --python $(BIN)/python --no-deps --editable .
	@touch $(READY)

book: $(READY) ## Execute every notebook and build the book: _build/html/index.html
	$(BIN)/imbal book --profile $(PROFILE) $(if $(filter 0 no false,$(LIVE)),--no-live,--live) $(if $(filter 0 no false,$(TRAIN)),,--train)

test: $(READY) ## Run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(READY) ## Check format, style, types and that notebooks carry no outputs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/nbstripout --verify $(wildcard notebooks/*.ipynb)

bench: $(READY) ## Run every benchmark on an idle machine; fails if one misses its target
	$(BIN)/python -m benchmarks

faults: $(READY) ## Kill runners, fill disks and damage files on purpose, and count what is lost (12 minutes)
	$(BIN)/python -m benchmarks.faults

lab: $(READY) ## Open the notebooks in JupyterLab
	$(BIN)/jupyter lab notebooks

clean: ## Remove what was generated (_build); the environment stays
	rm -rf _build
