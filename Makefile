# Two commands do all: `make bench` and `make test`. Every recipe sets itself up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Folder of downloaded data sets; the first that exists.
DATA ?= $(firstword $(wildcard data ../shared/data) data)
PROFILE ?= cpu
# Maintainers: PUBLISH=1 writes to the committed reference instead of results/own.
WHERE := $(if $(PUBLISH),--publish)
BENCH := $(BIN)/python -m bench
OPTIONS = --data-dir $(DATA) --profile $(PROFILE) $(WHERE)
STUDIES := quickstart bibtex delicious bible citeulike simplewiki decode
STUDIES += figure-quadratic figure-theory table-claims table-multilabel table-delicious-split
STUDIES += table-multiclass figure-tradeoff table-search figure-recall-worlds
STUDIES += table-wiki10-worlds amazon amazon-r32 table-twins

.DELETE_ON_ERROR:
.PHONY: bench test test-slow soak fuzz lint types smoke cluster-demo scaling golden losses output-layers step-limits readers digests audit report check clean $(STUDIES)

bench: $(VENV)/installed ## install, run the quickstart here, show it beside the reference
	$(BENCH) run quickstart --replicates 1 $(OPTIONS)
	$(BENCH) cost quickstart --rounds 5 --unless-recorded $(OPTIONS)
	$(BENCH) report quickstart

$(STUDIES): $(VENV)/installed ## one study: quality, then costs, then its report
	$(BENCH) run $@ $(OPTIONS)
	$(BENCH) cost $@ $(OPTIONS)
	$(BENCH) report $@ $(WHERE)

# With other load on the machine, spinning OpenMP barriers make small tests many times slower.
test test-slow soak: export OMP_WAIT_POLICY := PASSIVE

test: $(VENV)/installed ## the test suite, without slow tests
	$(BIN)/python -m pytest -q -m "not slow" -n auto --maxprocesses 4 --dist loadfile

test-slow: $(VENV)/installed ## the slow tests alone
	$(BIN)/python -m pytest -q -m slow

soak: $(VENV)/installed ## tiny trials under kills, signals and damage, with counts at the end
	$(BIN)/python tests/soak/soak.py --minutes $(or $(MINUTES),20)

fuzz: $(VENV)/installed ## mutated files to every reader, with counts at the end
	$(BIN)/python tests/soak/fuzz.py --inputs $(or $(INPUTS),1000000)

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/installed
	$(BIN)/mypy

# Two runners divide the trials, for starting one is work for one core.
smoke: SMOKED ?= all
smoke: $(VENV)/installed ## every study, tiny, on synthetic data; records go to a temporary folder
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	{ $(BENCH) run $(SMOKED) --smoke --results $$folder & \
	  $(BENCH) run $(SMOKED) --smoke --results $$folder; status=$$?; \
	  wait $$! || status=$$?; exit $$status; }
	$(BENCH) cost quickstart decode --smoke --rounds 1

cluster-demo: $(VENV)/installed ## a study on two Ray nodes of this host, one of which is killed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[cluster]'
	$(BIN)/python tests/cluster/two_nodes.py

scaling: $(VENV)/installed ## worlds on 1 and 2 processes and nodes of this host, and simulated on 1,000
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[cluster]'
	OMP_WAIT_POLICY=PASSIVE THP_MEM_ALLOC_ENABLE=1 $(BIN)/python tests/benchmarks/scaling.py --out results/benchmarks

golden: $(VENV)/installed ## pin anew what methods give whose version was raised
	$(BIN)/python tests/golden/golden.py

losses: $(VENV)/installed ## full softmax and one-vs-all against torch's own, in turns
	$(BIN)/python tests/benchmarks/losses.py

output-layers: $(VENV)/installed ## bytes and seconds of a step of wide output layers, over L
	OMP_WAIT_POLICY=PASSIVE THP_MEM_ALLOC_ENABLE=1 $(BIN)/python tests/benchmarks/output_layers.py --out results/benchmarks

step-limits: $(VENV)/installed ## a step of each method beside what its products and traffic take
	OMP_WAIT_POLICY=PASSIVE THP_MEM_ALLOC_ENABLE=1 $(BIN)/python tests/benchmarks/step_limits.py --data-dir $(DATA) --out results/benchmarks

readers: $(VENV)/installed ## files of texts and sparse rows read into the cache, beside scikit-learn
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt scikit-learn
	$(BIN)/python tests/benchmarks/readers.py --out results/benchmarks

digests: $(VENV)/installed ## what checking the cache costs, as a share of a quickstart trial
	$(BIN)/python tests/benchmarks/digests.py --data-dir $(DATA)

audit: $(VENV)/installed ## make reference records drawn at random again, and compare
	$(BENCH) audit --minutes 10 --data-dir $(DATA) $(WHERE)

report: $(VENV)/installed ## tables, figures and README tables of the reference, from its records
	$(BENCH) report --publish

check: $(VENV)/installed ## are tables and figures those of the records, and these whole?
	$(BENCH) check

# An environment without pip is half-made: it is made anew.
$(VENV)/installed: pyproject.toml constraints.txt
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,decode]'
	touch $@

clean: ## remove the environment and every cache, not the results
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
