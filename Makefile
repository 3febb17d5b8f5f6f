# A clean clone on a machine with Python 3.10 or newer needs nothing before any of these.
PYTHON := .venv/bin/python

.PHONY: help demo test lint bench clean

help:
	@echo "make demo   run a small sweep on this machine, with a live view"
	@echo "make test   run all tests"
	@echo "make lint   ruff and mypy"
	@echo "make bench  measure turnaround, size and idle cost"
	@echo "make clean  remove what these have made"

# Jobs call python3: with .venv first in PATH it is one that is there and new enough.
demo:
	@tools/setup.sh demo
	@PATH="$(CURDIR)/.venv/bin:$$PATH" .venv/bin/wavequeue run manifests/demo.yaml

# Tests wait for half of their time, so each core has two workers. They are given the longest first, one by one.
test:
	@tools/setup.sh test
	$(PYTHON) -m pytest -n $$((2 * $$(nproc))) --maxprocesses 4 --dist load --maxschedchunk 1 --durations 20 tests

lint:
	@tools/setup.sh test
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy

bench:
	@tools/setup.sh test
	$(PYTHON) -m benchmarks

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis manifests/demo/out
