# Forecourt: `make demo` shows it, `make test` proves it. Both install what they need on first use.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export FORECOURT_ASSETS ?= $(abspath ../shared/assets)

.PHONY: help
help: ## Show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(STAMP) ## Build .venv at the project's root (demo and test do this by themselves)

$(STAMP): requirements/dev.txt pyproject.toml
	@bash tests/parts/install.sh venv "$(PYTHON)"
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "Forecourt runs on Python 3.11 to 3.13; $$($(PYTHON) --version) is not. Name one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }
	@echo "building $(VENV): about 100 packages, a minute or two" >&2
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index --editable .
	@touch $(STAMP)

# In the environment, not as a flag: a URL may hold a camera's password.
ifdef VIDEO
export FORECOURT_DEMO_VIDEO := $(VIDEO)
endif

.PHONY: demo
demo: $(STAMP) ## Run the main job; VIDEO=<file or rtsp url> MODEL=<onnx> for one's own
	@exec $(BIN)/forecourt demo $(if $(MODEL),--model '$(MODEL)') $(DEMO_FLAGS)

.PHONY: test
test: $(STAMP) parts lint ## Run every check that CI runs
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

.PHONY: faults
faults: $(STAMP) parts ## Run the long loops of faults (an hour); `make test` runs the short ones
	$(BIN)/python -m pytest tests/faults -m soak

.PHONY: recall
recall: $(STAMP) ## Compare adaptive with full decoding on every recording and 50 scenes; writes docs/recall.md
	$(BIN)/python -m benchmarks.recall --report docs/recall.md

.PHONY: parts
parts: ## Install the real parts of the tests (Mosquitto, Chromium, an RTSP server) where allowed
	@bash tests/parts/install.sh parts

.PHONY: lint
lint: $(STAMP) ## Style, types, and the doors between the rooms
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: format
format: $(STAMP) ## Bring the code into shape
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: lock
lock: ## Resolve the dependencies anew, with hashes, for every Python and machine we run on
	@for extras in "edge" "edge plates" "center" "center edge plates dev"; do \
	  name=$${extras##* }; flags=""; for extra in $$extras; do flags="$$flags --extra $$extra"; done; \
	  $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	    --no-annotate --no-emit-index-url $$flags --output-file requirements/$$name.txt pyproject.toml; \
	done

.PHONY: clean
clean: ## Remove what was built here, and the demo's data
	rm -rf $(VENV) .demo .bench .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache test-results
