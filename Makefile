# make demo and make test are the two commands on a fresh machine: each makes .venv if it is missing.
PYTHON ?= python3
BIN := .venv/bin
export NMTR_DATA ?= ../shared/data

.PHONY: install demo test bench lint format wheel clean

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "nmtr needs Python 3.11 or newer, this is %d.%d; name another with make PYTHON=..." % sys.version_info[:2])'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all]'
	touch $@

demo: install
	rm -rf demo
	$(BIN)/nmtr demo --out demo

test: install
	OMP_NUM_THREADS=1 POLARS_MAX_THREADS=2 $(BIN)/python -m pytest

bench: install
	$(BIN)/python benchmarks/run.py

lint: install
	$(BIN)/ruff check src tests experiments benchmarks
	$(BIN)/ruff format --check src tests experiments benchmarks
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix src tests experiments benchmarks
	$(BIN)/ruff format src tests experiments benchmarks

wheel: install
	$(BIN)/python -m build --quiet

clean:
	rm -rf .venv dist build demo
