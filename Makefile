# The commands of README.md. They need only Python >= 3.11, pip, make and git.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.setup
BENCHMARKS ?= $(wildcard benchmarks/*.py)
# Compiled once, at set-up: a process that compiles all that it imports takes 5 s longer to start.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: setup demo test test-all lint dev bench lock clean

setup: $(SETUP)

# uv goes into the project's own environment: quick, and nothing outside this folder changes.
$(SETUP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "promo-assets needs Python >= 3.11, this is " + sys.version)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $(SETUP)

demo: setup ## one real retail year through Dagster, then a summary
	@$(BIN)/promo demo

test: setup ## everything but the slow tests
	@$(BIN)/python -m pytest -n 2 -m "not slow"

test-all: setup
	@$(BIN)/python -m pytest -n 2

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

dev: setup ## Dagster UI and MLflow UI on 127.0.0.1
	@$(BIN)/promo dev

bench: setup ## all of them, whatever fails; what this machine lacks is left out, and told
	@failed=; for benchmark in $(BENCHMARKS); do \
		echo "== $$benchmark"; $(BIN)/python $$benchmark || failed="$$failed $$benchmark"; \
	done; \
	test -z "$$failed" || { echo "FAILED:$$failed" >&2; exit 1; }

lock: setup
	@$(BIN)/uv pip compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-header \
		--all-extras --python-version 3.11 --universal pyproject.toml -o requirements.lock

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
