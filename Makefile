# Two commands on a fresh machine with Python 3.11+ and make: `make demo` and `make test`.
# Both make .venv and install what they need; a second run starts at once.

PYTHON ?= python3
VENV   := .venv
READY  := $(VENV)/.ready
BIN    := $(VENV)/bin

.PHONY: demo test lint unit chaos soak bench bench-evidence bench-peers docs clean

demo: $(READY)   ## the whole story on half a year of real departures
	$(BIN)/understudy demo $(DEMO_ARGS)

test: lint unit  ## everything that must hold before a change lands

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: $(READY)
	$(BIN)/pytest -n 3 -m "not slow" $(TEST_ARGS)

chaos: $(READY)  ## the faults, many times over; writes their counts into README
	$(BIN)/pytest -m slow --chaos-results bench/results $(TEST_ARGS)
	$(BIN)/python -m bench.isolation $(ISOLATION_ARGS)
	$(BIN)/python -m bench.readme README.md

soak: $(READY)   ## twenty minutes at half load: what grows, and how fast
	$(BIN)/python -m bench.soak $(SOAK_ARGS)
	$(BIN)/python -m bench.readme README.md

bench: $(READY)  ## figures of speed, memory and start beside FastAPI (and peers, where installed); needs wrk
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench]"
	$(BIN)/python -m bench $(BENCH_ARGS)
	$(BIN)/python -m bench.overload
	$(BIN)/python -m bench.readme README.md

bench-evidence: $(READY)  ## how often it promotes what is no better, and how soon what is; an hour (EVIDENCE_ARGS=--quick: a minute)
	$(BIN)/python -m bench.evidence $(or $(EVIDENCE_ARGS),--long)
	$(BIN)/python -m bench.readme README.md

bench-peers: $(READY)  ## other model servers, each in an environment of its own under .bench-peers
	$(BIN)/python -m bench.peers install

docs: $(READY)   ## the parts of README that are made from the code
	$(BIN)/python -m gateway.cli.settings_table README.md

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis understudy-data

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[demo,test]"
	touch $(READY)
