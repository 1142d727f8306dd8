# `make run` and `make test` are all that is needed; both want Python 3.11 or later, git and make, and nothing else.
# Works with the make that macOS carries (3.81).
.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: run test lint types bench loadtest faults clean help environment dev-environment

BIN := .venv/bin
# For instance: make test ARGS="tests/unit -x"
ARGS ?=
# Of the suite, at once: much of a test is waiting.
TEST_PROCESSES ?= 2
LOADTEST_USERS ?= 20
LOADTEST_SECONDS ?= 60

run: environment ## start everything on this machine: servers, schema, API, workers; Ctrl-C stops it
	@exec $(BIN)/sluice up

test: lint types ## lint, types, then the whole suite against real servers that it starts itself
	@exec $(BIN)/pytest -n $(TEST_PROCESSES) --dist loadfile $(ARGS)

lint: dev-environment ## ruff, its formatter, and the rules of who may import whom
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet || { $(BIN)/ruff format --check; exit 1; }
	@$(BIN)/lint-imports --no-logo

types: dev-environment ## mypy, strict
	@$(BIN)/mypy

bench: dev-environment ## ratios of one run on this machine, also written to bench/results
	@exec $(BIN)/python -m bench $(ARGS)

loadtest: dev-environment ## Locust against the running local stack, with a report in loadtests/report.html
	@exec $(BIN)/locust --locustfile loadtests/locustfile.py --headless --only-summary --stop-timeout 10 \
	  --users $(LOADTEST_USERS) --spawn-rate $(LOADTEST_USERS) --run-time $(LOADTEST_SECONDS)s \
	  --html loadtests/report.html $(ARGS)

faults: dev-environment ## the long form of the fault and fuzz suites, with the tables and plots in bench/results
	@exec $(BIN)/pytest --long tests/faults tests/fuzz $(ARGS)

clean: ## remove what can be made again: .venv, caches, reports; your data in .sluice stays
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist loadtests/report.html
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

environment:
	@deploy/venv run

dev-environment:
	@deploy/venv dev
