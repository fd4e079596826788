# `make` prints this menu. Works with GNU make 3.81 (macOS) and newer.

PYTHON := .venv/bin/python
ARGS ?=

# Where it is set, every process of ours would compile SQLAlchemy and Celery anew: seconds instead of a fraction of one.
unexport PYTHONDONTWRITEBYTECODE

# One shell that becomes the command (exec): Ctrl-C and signals reach it and nothing stands in between.
RUN := @exec $(PYTHON) -m

COMPILE = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
    --no-emit-index-url --no-emit-find-links $(ARGS)

.DEFAULT_GOAL := menu
.PHONY: menu setup demo up flower test check lint types chaos fuzz bench lock clean

menu:
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo '  More words for a command: make test ARGS="-k refresh"'

setup: ## make .venv from the lock file (every other target does it first)
	@deploy/bootstrap.sh

demo: setup ## watch grants being connected, refreshed and rotated, on this machine alone
	$(RUN) tests.demo $(ARGS)

up: setup ## run everything here until Ctrl-C: databases, workers, beat, Flower, a provider to play with
	$(RUN) tests.demo.up $(ARGS)

flower: setup ## Flower, behind a password, for the workers at VAULT_REDIS_URL
	$(RUN) tests.demo.up --only-flower $(ARGS)

test: setup ## run all tests
	$(RUN) pytest $(ARGS)

check: lint types ## lint, formatting and types

lint: setup ## ruff: rules and formatting
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .

types: setup ## mypy, strict
	$(RUN) mypy

chaos: setup ## kill, freeze and cut things for a long time and count what was lost
	$(RUN) tests.chaos $(ARGS)

fuzz: setup ## throw twenty million malformed envelopes, keys and texts at their openers
	$(RUN) tests.fuzz $(ARGS)

# What uv calls it. No word may follow in its line: make would take the space before it for a part of the name.
ifneq ($(PIP_CERT),)
bench: export SSL_CERT_FILE := $(or $(SSL_CERT_FILE),$(PIP_CERT))
endif
bench: setup ## measure: each figure beside its limit
	@$(PYTHON) -m uv pip install --quiet --python $(PYTHON) --require-hashes --requirement deploy/bench.lock
	$(RUN) tests.benchmarks $(ARGS)

lock: ## resolve the dependencies again (needs uv; ARGS=--upgrade for the newest versions)
	@command -v uv >/dev/null || { echo 'make lock needs uv on PATH'; exit 1; }
	$(COMPILE) --extra web --extra embedded --extra azure --extra transit --extra mysql --extra dev \
	    --output-file deploy/requirements.lock pyproject.toml
	$(COMPILE) --extra bench --constraint deploy/requirements.lock --output-file deploy/bench.lock pyproject.toml

clean: ## remove what tools leave behind; .venv stays
	@rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage htmlcov
	@find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
