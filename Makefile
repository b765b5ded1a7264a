# Every target does its own set-up. PYTHON=python3.12 make test  chooses the interpreter.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DEMO   ?= model-upgrade
RUN_FLAGS := $(if $(EXIT),--exit,)
SEEDED := $(addprefix tests/,system/test_demo_decisions.py streams/test_recovery.py streams/test_replay_equals_live.py)
JARS   := infra/kafka/target/jars/.complete

# Where it is set nothing that Python compiled is kept, and every process of ours starts slower.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test test-long test-seeds faults fuzz lint bench bench-decisions bench-real-cases bench-late-truth bench-drift clean setup jars check-python check-java

run: setup jars  ## Local stack with a demo: Kafka, store, every process. EXIT=1 ends after the demo.
	$(BIN)/tidegate up --demo $(DEMO) $(RUN_FLAGS)

test: setup jars  ## Tests, against a real broker and the real ClickHouse engine: every promise once.
	$(BIN)/python -m pytest -n 3 --dist loadgroup -q -m "not long" $(ARGS)

test-long: setup jars  ## The other tests: more of the points at which processes are killed, servers away.
	$(BIN)/python -m pytest -n 3 --dist loadgroup -q -m long $(ARGS)

test-seeds: setup  ## More seeds of what draws at random: demos, restarts, traces.
	DEMO_SEEDS=4 RECOVERY_EXAMPLES=30 REPLAY_TRACES=10 $(BIN)/python -m pytest -n 2 -q $(SEEDED)

faults: setup jars  ## Seeded faults over the whole system, checked against what was sent. SEEDS=200 for a full run: 200 faults at least.
	$(BIN)/python -m tests.faults --seeds $(or $(SEEDS),72) --first $(or $(FIRST),0)

fuzz: setup  ## Coverage-guided inputs for all that reads foreign bytes. INPUTS=1050000 for a full run.
	PIP_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet --editable '.[server,dev,fuzz]'
	$(BIN)/python -m tests.fuzz --inputs $(or $(INPUTS),100000)

lint: setup  ## Style, types and who may import whom.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup jars  ## Benchmarks beside named peers; prints the table and saves it as JSON.
	$(BIN)/python -m benchmarks

bench-decisions: setup  ## How often decisions are wrong and how long they take, simulated, beside the rules people use.
	$(BIN)/python -m benchmarks.decisions --json benchmarks/results/decisions.json --markdown benchmarks/results/decisions.md

bench-real-cases: setup  ## Verdicts on recorded data beside what is known of it; writes docs/real-cases.md.
	$(BIN)/python -m benchmarks.real_cases

bench-late-truth: setup  ## False rollbacks when the records of one variant come late.
	$(BIN)/python -m benchmarks.late_truth

bench-drift: setup  ## False alarms and delays of drift beside named detectors; writes docs/drift-benchmark.md.
	$(BIN)/python -m benchmarks.drift

setup: $(VENV)/.complete

$(VENV)/.complete: pyproject.toml constraints.txt | check-python
	@echo "installing into $(VENV); the first time this takes a minute or more"
	$(PYTHON) -m venv $(VENV)
	PIP_CONSTRAINT=constraints.txt $(BIN)/pip install --quiet --editable '.[server,dev]'
	touch $@

jars: $(JARS)

$(JARS): infra/kafka/pom.xml | check-java
	mvn --quiet --batch-mode -f infra/kafka/pom.xml dependency:copy-dependencies
	touch $@

check-python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Python >= 3.11 is missing: install it (Debian: apt-get install python3 python3-venv) or say PYTHON=/path/to/python3.11"; exit 1; }

check-java:
	@command -v java >/dev/null && java -version 2>&1 | awk -F'[".]' '/version/ { exit !($$2 >= 17) }' || \
	  { echo "Java >= 17 is missing (Kafka runs on it): apt-get install openjdk-17-jre-headless"; exit 1; }
	@command -v mvn >/dev/null || \
	  { echo "Maven is missing (it fetches Kafka's jars): apt-get install maven"; exit 1; }

clean:  ## Removes what the targets above made; your data directories stay.
	rm -rf $(VENV) infra/kafka/target build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
