# Development commands; `make` alone lists them. Needs Python 3.11+ and make; everything else is installed into VENV.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
CODE   := app.py gunicorn.conf.py $(wildcard worker.py) signalcraft migrations tests $(wildcard bench systemtest)
FILES  := $(shell find $(CODE) -name '*.py') pyproject.toml README.md CHANGELOG.md .env.example \
          Procfile Procfile.one Dockerfile compose.yaml app.json requirements.txt $(wildcard docs/* ops/*/*)

.DEFAULT_GOAL := help
.PHONY: help demo run shell dashboard test check format lint types imports security coverage docs bench chaos sweep outages audit outdated clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## send sample alerts through real servers, print the groups and what Slack shows, stop
	@$(BIN)/python -m signalcraft demo

run: $(READY) ## the same, and keep running, with a page of what Slack shows; data is in .signalcraft/
	@$(BIN)/python -m signalcraft dev

shell: $(READY) ## a shell for `python -m signalcraft`, with the settings of `make run` where there are any
	@set -a; ! test -e .signalcraft/environment || . .signalcraft/environment; \
	PATH="$(abspath $(BIN)):$$PATH" exec $${SHELL:-sh}

dashboard: $(READY) ## the queues of `make run`, or of REDIS_URL, on http://127.0.0.1:9181
	@set -a; test -n "$$REDIS_URL" || ! test -e .signalcraft/environment || . .signalcraft/environment; \
	$(BIN)/python -m signalcraft dashboard

test: $(READY) ## all tests, with coverage; or some: make test ARGS="-k fingerprint"
ifdef ARGS
	$(BIN)/python -m pytest $(ARGS)
else
	@rm -f .coverage .coverage.*
	@$(MAKE) --no-print-directory .coverage
endif

check: lint types imports security coverage ## all checks that a change must pass

format: $(READY) ## format the code
	$(BIN)/ruff check --fix-only --quiet $(CODE)
	$(BIN)/ruff format --quiet $(CODE)

lint: $(READY) ## ruff, everything on, and its format; the Dockerfile and the compose file
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/hadolint --no-color Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec compose.yaml

types: $(READY) ## mypy, strict
	$(BIN)/mypy

imports: $(READY) ## which module may import which
	$(BIN)/lint-imports --no-cache

security: $(READY) ## bandit
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml app.py $(wildcard worker.py) signalcraft migrations

coverage: .coverage ## test coverage; runs the tests unless they just ran on the same files
	$(BIN)/coverage report

docs: $(READY) ## write the generated documents: .env.example, the README's settings, docs/metrics.md, docs/sentry.md
	$(BIN)/python -m signalcraft.dev.docs

bench: $(READY) ## run all benchmarks; or some, on other servers: make bench ARGS="drain --database-url ... --redis-url ..."
	$(BIN)/python -m bench $(ARGS)

chaos: $(READY) ## kill and freeze everything under load, and count lost deliveries; SECONDS=60
	$(BIN)/python -m systemtest.chaos --seconds $(or $(SECONDS),60)
	$(BIN)/python -m systemtest.chaos --seconds $(or $(SECONDS),60) --broken

sweep: $(READY) ## kill worker, inbox consumer, web and notifier at every step, not only at some
	SWEEP_EVERY=1 $(BIN)/python -m pytest tests/end_to_end/test_crash_sweep.py -s

outages: $(READY) ## Redis, then PostgreSQL unavailable for a minute, under load; SECONDS=60
	$(BIN)/python -m systemtest.outages --seconds $(or $(SECONDS),60)

audit: $(READY) ## known vulnerabilities of the pinned requirements
	$(BIN)/pip-audit --requirement requirements.txt

outdated: $(READY) ## requirements with newer versions
	$(BIN)/pip list --outdated

clean: ## remove generated files, the virtual environment and the data of `make run`
	rm -rf $(VENV) .signalcraft .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find $(CODE) -name __pycache__ -prune -exec rm -rf {} +

# The coverage data: `make check` after `make test` does not run the tests twice. Two processes, each with servers of its
# own, run all but end_to_end, whose tests load and kill whole deployments, and measure them.
.coverage: $(READY) $(FILES)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest --ignore=tests/end_to_end --numprocesses=2 --dist=loadfile
	$(BIN)/coverage run -m pytest tests/end_to_end
	$(BIN)/coverage combine --quiet

$(READY): requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "SignalCraft needs Python 3.11 or newer; say which with PYTHON=...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing what requirements-dev.txt pins into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --requirement requirements-dev.txt
	@touch $@
