# `make run` is all that a fresh checkout needs; `make help` lists the rest.

PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check --no-input
UV := uv==0.13.9
# Releases younger than a week are left alone: most poisoned ones are found and withdrawn sooner.
LOCK := $(BIN)/uv -q pip compile --universal --python-version 3.11 --exclude-newer '7 days' \
	--generate-hashes --no-annotate --custom-compile-command 'make lock'

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help install run test check bench soak faults lock clean

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo '  ARGS passes further arguments on:    make test ARGS="tests/domain -k coupon"'
	@echo '  PORT and HOST say where to listen:   make run PORT=9000'
	@echo '  PYTHON names another interpreter:    make install PYTHON=python3.13'

install: $(VENV)/.dev ## Make the environment alone (.venv) and start nothing

run: $(VENV)/.runtime ## Start the gateway on 127.0.0.1:8000; prints its address and the first admin key
	@$(BIN)/gatewayz serve $(ARGS)

test: $(VENV)/.dev ## Run the tests; those on PostgreSQL or Redis run where one is found
	@$(BIN)/pytest -n 2 $(ARGS)

check: $(VENV)/.dev ## Formatter, linter, types, import contracts, dead code
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/vulture

bench: $(VENV)/.dev ## Run the benchmarks against their bars
	@$(BIN)/python -m tests.benchmarks $(ARGS)

soak: $(VENV)/.dev ## A million requests under load, then the reckoning (ARGS="--requests 20000" for fewer)
	@$(BIN)/python -m tests.soak $(ARGS)

faults: $(VENV)/.dev ## Break processes, connections and disks at length; ten times the examples of properties
	@TEST_THOROUGH=1 $(BIN)/pytest -m 'fault or fault_campaign or hypothesis' $(ARGS)

lock: $(VENV)/.made ## Pin the dependencies anew from pyproject.toml (ARGS=--upgrade for newer ones)
	@$(PIP) install '$(UV)'
	@$(LOCK) pyproject.toml --group build --group dev $(ARGS) -o requirements-dev.txt
	@$(LOCK) pyproject.toml -c requirements-dev.txt $(ARGS) -o requirements.txt
	@$(LOCK) --group build -c requirements-dev.txt $(ARGS) -o requirements-build.txt

clean: ## Remove the environment and all caches; var/ with its data stays
	@rm -rf $(VENV) build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "Gatewayz needs Python 3.11 or newer; '$(PYTHON)' is: $$($(PYTHON) --version 2>&1)" >&2; \
		echo "Name another one: make $(MAKECMDGOALS) PYTHON=python3.13" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || { \
		echo "Could not make $(VENV); on Debian and Ubuntu, install the package python3-venv." >&2; exit 1; }
	@touch $@

# Two stamps in one environment: running needs fewer packages than testing.  The project itself is
# installed in place by the pinned build backend, so no other copy of it is downloaded.
$(VENV)/.runtime: $(VENV)/.made pyproject.toml requirements.txt requirements-build.txt
	@echo 'Installing the pinned dependencies into $(VENV) ...'
	@$(PIP) install --require-hashes -r requirements.txt -r requirements-build.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml requirements-dev.txt
	@echo 'Installing the pinned dependencies and development tools into $(VENV) ...'
	@$(PIP) install --require-hashes -r requirements-dev.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $(VENV)/.runtime $@
