# Two commands do all: `make bench` and `make test`. Every recipe sets itself up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Folder of downloaded data sets; the first that exists.
DATA ?= $(firstword $(wildcard data ../shared/data) data)
PROFILE ?= cpu
RUN = $(BIN)/python -m bench run --data-dir $(DATA) --profile $(PROFILE)
STUDIES := quickstart delicious bible citeulike simplewiki decode

.DELETE_ON_ERROR:
.PHONY: bench test test-slow lint types smoke tables figures report check clean $(STUDIES)

bench: quickstart ## install, run the quickstart study, write tables, figures and page

$(STUDIES): $(VENV)/installed ## run one study and report it
	$(RUN) $@
	$(BIN)/python -m bench report $@

# With other load on the machine, spinning OpenMP barriers make small tests many times slower.
test test-slow: export OMP_WAIT_POLICY := PASSIVE

test: $(VENV)/installed ## the test suite, without slow tests
	$(BIN)/python -m pytest -q -m "not slow"

test-slow: $(VENV)/installed ## the slow tests alone
	$(BIN)/python -m pytest -q -m slow

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/installed
	$(BIN)/mypy

smoke: $(VENV)/installed ## every study, tiny, on synthetic data; records go to a temporary folder
	$(BIN)/python -m bench run all --smoke

tables figures report: $(VENV)/installed ## tables, figures and README tables from the records
	$(BIN)/python -m bench report

check: $(VENV)/installed ## are tables and figures those of the records, and the records of this code?
	$(BIN)/python -m bench check

$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,decode]'
	touch $@

clean: ## remove the environment and every cache, not the results
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
