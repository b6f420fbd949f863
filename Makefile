# `make` alone prints the targets. Nothing is needed but make and Python 3.11 or newer, and for Kafka Java and Maven.
PYTHON ?= python3
UV ?= uv
DEMO_ARGS ?=
PYTEST_ARGS ?=
BENCH_ARGS ?=

BIN := .venv/bin
INSTALLED := .venv/.installed
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command 'make lock' pyproject.toml

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-brokers soak lint types contracts check bench bench-http bench-kafka serve kafka contract lock clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(INSTALLED) ## install everything into .venv (every other target does it when needed)

demo: $(INSTALLED) ## run several executions on real input and check the log (DEMO_ARGS=PATH; KAFKA=1: and a Kafka topic)
	@$(if $(KAFKA),$(BIN)/python -m scripts.kafka lend -- )$(BIN)/execution demo $(if $(KAFKA),--kafka) $(DEMO_ARGS)

test: $(INSTALLED) ## run the tests, on an embedded PostgreSQL and, where there is Java, a Kafka broker of their own
	@$(BIN)/python -m scripts.kafka fetch --if-possible
	@$(BIN)/pytest -n 2 --dist loadgroup $(PYTEST_ARGS)

test-brokers: $(INSTALLED) ## run the tests of faults around Kafka: brokers freeze, stop and die, consumers come and go
	@$(BIN)/python -m scripts.kafka fetch --if-possible
	@$(BIN)/pytest -m "own_broker and not slow" $(PYTEST_ARGS)

soak: $(INSTALLED) ## run the slow tests that the suite leaves out
	@$(BIN)/python -m scripts.kafka fetch --if-possible
	@$(BIN)/pytest -m slow --timeout 1800 $(PYTEST_ARGS)

lint: $(INSTALLED) ## ruff: lint and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(INSTALLED) ## mypy, strict
	@$(BIN)/mypy

contracts: $(INSTALLED) ## import-linter: who may import whom
	@$(BIN)/lint-imports

check: lint types contracts ## lint, types and contracts

bench: $(INSTALLED) ## measure this machine: a table, JSON and a chart (BENCH_ARGS=--quick: rougher, in a minute)
	@$(BIN)/python -m benchmarks $(BENCH_ARGS)

bench-http: $(INSTALLED) ## measure the HTTP door beside bare FastAPI routes (BENCH_ARGS=--quick)
	@$(BIN)/python -m benchmarks.http $(BENCH_ARGS)

bench-kafka: $(INSTALLED) ## measure the relay beside a bare Kafka client: a table and JSON (BENCH_ARGS=--quick: rougher)
	@$(BIN)/python -m scripts.kafka fetch
	@$(BIN)/python -m benchmarks.kafka $(BENCH_ARGS)

serve: $(INSTALLED) ## serve HTTP and run executions until Ctrl-C
	@$(BIN)/execution serve

kafka: ## run a Kafka broker at 127.0.0.1:9092 until Ctrl-C (needs Java 17 or newer, and Maven the first time)
	@$(PYTHON) -m scripts.kafka run

contract: $(INSTALLED) ## renew the docs made from the code: asyncapi.json, the contract over Kafka, and settings.md
	@env -i PATH="$$PATH" $(BIN)/execution asyncapi >docs/asyncapi.json
	@$(BIN)/execution settings --markdown >docs/settings.md

lock: ## renew requirements*.txt from pyproject.toml (UPGRADE=1: newest versions)
	@command -v $(UV) >/dev/null || { echo "make lock needs uv: install it, or name it with UV=path"; exit 1; }
	@$(COMPILE) $(if $(UPGRADE),--upgrade) --output-file requirements.txt
	@$(COMPILE) $(if $(UPGRADE),--upgrade) --extra dev --constraint requirements.txt --output-file requirements-dev.txt

clean: ## remove the virtual environment, the caches and the build output (keeps .execution)
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage build dist *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(INSTALLED): requirements.txt requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed. Name one with: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
		echo "This Python has no venv module: install it (Debian, Ubuntu: the package python3-venv)."; exit 1; }
	@echo "installing into .venv (once, and again when the locks change)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@
