# Everything a person needs to type. Each target makes the environment it needs; all can be run twice.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test check bench docs clean

demo: $(VENV)/.core  ## the main job on the packaged pair
	$(BIN)/eckart demo -o build/demo

test: $(VENV)/.test  ## all tests
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

check: $(VENV)/.check  ## format, lint, types
	$(BIN)/ruff format --check src tests benchmarks scripts
	$(BIN)/ruff check src tests benchmarks scripts
	$(BIN)/mypy

bench: $(VENV)/.bench .venv-mergekit/.done  ## benchmarks against pinned rivals, to benchmarks/RESULTS.md
	$(BIN)/python benchmarks/run.py

docs: $(VENV)/.docs  ## the guide, to site/
	$(BIN)/mkdocs build --strict

clean:
	rm -rf .venv .venv-mergekit build site

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: $(BIN)/python pyproject.toml
	$(PIP) install --quiet --editable .
	touch $@

# The pinned torch goes in first and alone: later, a range that it satisfies installs nothing more.
$(VENV)/.torch: $(VENV)/.core constraints.txt
	$(PIP) install --quiet --constraint constraints.txt torch
	touch $@

$(VENV)/.test: $(VENV)/.torch requirements-test.txt
	$(PIP) install --quiet --constraint constraints.txt --requirement requirements-test.txt
	touch $@

$(VENV)/.check: $(VENV)/.core requirements-check.txt
	$(PIP) install --quiet --requirement requirements-check.txt
	touch $@

$(VENV)/.bench: $(VENV)/.torch requirements-bench.txt
	$(PIP) install --quiet --constraint constraints.txt --requirement requirements-bench.txt
	touch $@

$(VENV)/.docs: $(VENV)/.core requirements-docs.txt
	$(PIP) install --quiet --requirement requirements-docs.txt
	touch $@

.venv-mergekit/.done: constraints.txt benchmarks/requirements-mergekit.txt
	$(PYTHON) -m venv .venv-mergekit
	.venv-mergekit/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt torch
	.venv-mergekit/bin/python -m pip --disable-pip-version-check install --quiet --requirement benchmarks/requirements-mergekit.txt
	touch $@
