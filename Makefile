# A clean clone on a machine with Python 3.10 or newer needs nothing before any of these.
PYTHON := .venv/bin/python

.PHONY: help demo test lint bench docs clean

help:
	@echo "make demo   run a small sweep on this machine, with a live view"
	@echo "make test   run all tests"
	@echo "make lint   ruff and mypy"
	@echo "make docs   build the site of docs/ into build/site"
	@echo "make bench  measure turnaround, size and idle cost"
	@echo "make clean  remove what these have made"

# Jobs call python3: with .venv first in PATH it is one that is there and new enough.
demo:
	@tools/setup.sh demo
	@PATH="$(CURDIR)/.venv/bin:$$PATH" .venv/bin/wavequeue run manifests/demo.yaml
	@echo "The command is in .venv/bin. Write a spec of your own: .venv/bin/wavequeue init"
	@echo "Look at this run again: .venv/bin/wavequeue report"

# Tests wait for much of their time, so each core has four workers. The longest are begun first, one by one.
test:
	@tools/setup.sh test
	@for half in "tests/e2e tests/contracts" "tests --ignore tests/e2e --ignore tests/contracts"; do \
		$(PYTHON) -m pytest --collect-only -q $$half >/dev/null 2>&1 & \
	done; wait  # compiles them once, and not in each worker
	$(PYTHON) -m pytest -n $$((4 * $$(nproc))) --maxprocesses 8 --dist load --maxschedchunk 1 --durations 20 tests

lint:
	@tools/setup.sh test
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy

# The reference pages are written from the code, and then all pages become a site; a dead link is an error.
docs:
	@tools/setup.sh docs
	for tool in command_reference spec_reference statuses packages; do PYTHONPATH=. $(PYTHON) tools/$$tool.py; done
	.venv/bin/zensical build --clean --strict
	@echo "see build/site/index.html"

bench:
	@tools/setup.sh test
	$(PYTHON) -m benchmarks

clean:
	rm -rf .venv build .cache *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis manifests/demo/out
