# Two commands to know: `make demo` trains on the built-in data, `make test` checks everything.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# One thread a process: the tests run in two processes, and training steps are small.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test test-slow fuzz lint types unit docs bench-imputers clean

demo: $(VENV)/installed
	$(BIN)/privfin train --epsilon 8

test: $(VENV)/installed-test lint types unit

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/installed-test: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) install --quiet --constraint constraints.txt --editable ".[test,docs]"
	touch $(VENV)/installed $@

lint: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/installed-test
	$(BIN)/mypy

unit: $(VENV)/installed-test
	$(BIN)/pytest -n 2 -m "not slow" -q

test-slow: $(VENV)/installed-test
	$(BIN)/pytest -m slow -q

fuzz: $(VENV)/installed-test
	PRIVFIN_FUZZ_CASES=$${PRIVFIN_FUZZ_CASES:-3000} $(BIN)/pytest tests/fuzz -q

docs: $(VENV)/installed-test
	$(BIN)/mkdocs build --strict

bench-imputers: $(VENV)/installed-test
	$(BIN)/python benchmarks/imputers.py

clean:
	rm -rf $(VENV) build dist site *.egg-info
