# Every target creates the environment that it needs. Every target can be run again.
ifeq ($(OS),Windows_NT)
PYTHON ?= python
SCRIPTS := Scripts
else
PYTHON ?= python3
SCRIPTS := bin
endif
VENV := .venv
BIN := $(VENV)/$(SCRIPTS)
QUICK := .venv-quick/$(SCRIPTS)
MERGEKIT := .venv-mergekit/$(SCRIPTS)
# Installing a dependency group needs pip 25.1 or later, so every environment gets this pip first.
PIP_VERSION := 26.3
QUICK_TESTS := $(wildcard tests/test_*.py) $(addprefix tests/,linalg rank checkpoint store autodiff) \
	$(addprefix tests/,cli/test_api.py cli/test_app.py guide/test_reference.py) src/eckart
INSTALL := -m pip --disable-pip-version-check install --quiet

.PHONY: demo quick test fuzz check bench docs clean

demo: $(VENV)/.core  ## run the main job on the packaged pair
	$(BIN)/eckart demo --output build/demo --overwrite

quick: .venv-quick/.done  ## the fast tests, in an environment without torch, in under two minutes
	$(QUICK)/python -c "import importlib.util as u; assert not u.find_spec('torch'), 'torch is installed'"
	$(QUICK)/python -m pytest --numprocesses auto --dist loadfile --hypothesis-profile quick $(QUICK_TESTS)

test: $(VENV)/.test  ## all tests
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

fuzz: $(VENV)/.test  ## 50,000 cases of damaged and hostile input; `make test` runs the first 2,000
	$(BIN)/python -m tests.fuzz --count 50000

check: $(VENV)/.check  ## format, lint, types and docstrings
	$(BIN)/ruff format --check src tests benchmarks examples scripts
	$(BIN)/ruff check src tests benchmarks examples scripts
	$(BIN)/mypy
	$(BIN)/python scripts/check_docstrings.py

bench: $(VENV)/.bench .venv-mergekit/.done  ## benchmarks against pinned rivals, written to benchmarks/RESULTS.md
	$(BIN)/python benchmarks/run.py

docs: $(VENV)/.docs  ## the guide, written to site/
	$(BIN)/mkdocs build --strict

clean:
	rm -rf .venv .venv-quick .venv-mergekit build site

$(VENV)/.pip .venv-quick/.pip .venv-mergekit/.pip:
	$(PYTHON) -m venv $(@D)
	$(@D)/$(SCRIPTS)/python $(INSTALL) pip==$(PIP_VERSION)
	touch $@

$(VENV)/.core: $(VENV)/.pip pyproject.toml
	$(BIN)/python $(INSTALL) --editable .
	touch $@

# The pinned torch is installed first and alone: a later range that it satisfies installs nothing more.
$(VENV)/.torch: $(VENV)/.core constraints.txt
	$(BIN)/python $(INSTALL) --constraint constraints.txt torch
	touch $@

$(VENV)/.test: $(VENV)/.torch
	$(BIN)/python $(INSTALL) --constraint constraints.txt --group test
	touch $@

$(VENV)/.check: $(VENV)/.core
	$(BIN)/python $(INSTALL) --group check
	touch $@

$(VENV)/.bench: $(VENV)/.torch
	$(BIN)/python $(INSTALL) --constraint constraints.txt --group bench
	touch $@

$(VENV)/.docs: $(VENV)/.core
	$(BIN)/python $(INSTALL) --group docs
	touch $@

# An environment of its own, without torch: what passes here imports no torch.
.venv-quick/.done: .venv-quick/.pip pyproject.toml
	$(QUICK)/python $(INSTALL) --editable . --group quick
	touch $@

.venv-mergekit/.done: .venv-mergekit/.pip constraints.txt benchmarks/requirements-mergekit.txt
	$(MERGEKIT)/python $(INSTALL) --constraint constraints.txt torch
	$(MERGEKIT)/python $(INSTALL) --requirement benchmarks/requirements-mergekit.txt
	touch $@
