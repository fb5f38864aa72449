# make demo and make test are the two commands on a fresh machine: each makes .venv if it is missing.
PYTHON ?= python3
BIN := .venv/bin
export NMTR_DATA ?= ../shared/data
OUR_WORKERS := nmtr counts machine quality
AUDITORS := 'pip-audit>=2.9,<3' 'pip-licenses>=5,<6' 'cyclonedx-bom>=7,<8'

.PHONY: install demo test coverage bench lint format docs release audit-dependencies clean

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

# Branches too, and what tests start in processes of their own; the report goes by file.
coverage: install
	OMP_NUM_THREADS=1 POLARS_MAX_THREADS=2 $(BIN)/coverage run -m pytest
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

bench: install
	$(BIN)/python benchmarks/run.py

lint: install
	$(BIN)/ruff check src tests experiments benchmarks docs examples
	$(BIN)/ruff format --check src tests experiments benchmarks docs examples
	$(BIN)/mypy
	MYPYPATH=experiments $(BIN)/mypy experiments
	MYPYPATH=benchmarks $(BIN)/mypy --exclude workers benchmarks
	MYPYPATH=benchmarks/workers $(BIN)/mypy $(addprefix benchmarks/workers/,$(OUR_WORKERS:=_worker.py))

format: install
	$(BIN)/ruff check --fix src tests experiments benchmarks docs examples
	$(BIN)/ruff format src tests experiments benchmarks docs examples

docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

release: install
	rm -rf dist
	$(BIN)/python -m build --quiet
	$(BIN)/twine check --strict dist/*

# What a user installs, in an environment of its own, looked at by tools in another. Needs the network.
AUDIT := build/audit
audit-dependencies: release
	rm -rf $(AUDIT)
	$(PYTHON) -m venv $(AUDIT)/user
	$(PYTHON) -m venv $(AUDIT)/tools
	$(AUDIT)/user/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt "$$(ls dist/*.whl)[postgres,serve]"
	$(AUDIT)/tools/bin/python -m pip install --quiet --disable-pip-version-check $(AUDITORS)
	$(AUDIT)/tools/bin/pip-licenses --python=$(AUDIT)/user/bin/python --from=mixed --format=markdown --with-urls --order=license --output-file=$(AUDIT)/licences.md
	$(AUDIT)/tools/bin/cyclonedx-py environment --output-reproducible --output-file $(AUDIT)/sbom.cdx.json $(AUDIT)/user/bin/python
	$(AUDIT)/user/bin/python -m pip freeze --exclude nmtr | sed 's/+.*//' > $(AUDIT)/requirements.txt
	$(AUDIT)/tools/bin/pip-audit --strict --disable-pip --no-deps --requirement $(AUDIT)/requirements.txt

clean:
	rm -rf .venv dist build demo
