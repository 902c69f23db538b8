# Two commands matter: `make demo` and `make test`. Both do all their own set-up.
SHELL := /bin/bash
VENV := .venv
BIN := $(abspath $(VENV))/bin
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do \
	command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null && echo $$p && break; done)
DEMO := demo
AIRFLOW := .venv-airflow
# Processes that share the test suite, each with a Spark session of its own, 3 GB in all. 0 runs it in one process.
WORKERS ?= 2
# What builds this package and writes the lock. It is locked too, so that setup installs nothing without a known hash.
BUILD_TOOLS := hatchling editables uv
export HF_HUB_OFFLINE ?= 1
# Waiting threads of OpenMP sleep; spinning ones would take the cores of Spark and of other processes.
export OMP_WAIT_POLICY ?= PASSIVE

.DEFAULT_GOAL := help
.PHONY: help setup java demo demo-multimodal test coverage test-slow test-airflow check format docs site lock bench calibrate clean

help: ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

setup: java $(VENV)/.installed ## a virtual environment with the locked dependencies

java:
	@bash .ci/java

$(VENV)/.installed: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or 3.12 is needed. On Debian 12: apt-get install python3 python3-venv"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "Python lacks venv. On Debian: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@

demo: setup ## MovieLens-100K from catalog to aligned, served, trained semantic IDs
	@$(BIN)/qarm init $(DEMO) >/dev/null
	@cp examples/movielens_100k/qarm.yaml $(DEMO)/qarm.yaml
	@$(BIN)/python examples/movielens_100k/download.py $(DEMO)/catalog
	@cd $(DEMO) && $(BIN)/qarm run --compare

demo-multimodal: setup ## a drawn catalog of pictures, sounds and texts: what each modality brings
	@$(BIN)/qarm init $(DEMO)_multimodal >/dev/null
	@cp examples/multimodal/qarm.yaml $(DEMO)_multimodal/qarm.yaml
	@$(BIN)/python examples/multimodal/draw_catalog.py $(DEMO)_multimodal/catalog
	@cd $(DEMO)_multimodal && $(BIN)/qarm run
	@$(BIN)/python examples/multimodal/show_modalities.py $(DEMO)_multimodal

test: setup ## the test suite
	$(BIN)/python -m pytest -n $(WORKERS)

coverage: setup ## the test suite, with the lines of qarm_features that it runs; fails below the floor in pyproject.toml
	$(BIN)/python -m pytest --cov --cov-report=term

test-slow: setup ## the suites that take minutes: a standalone cluster, kill -9 at every stage, every quantizer, refits
	QARM_TEST_CODEGEN=1 $(BIN)/python -m pytest -m slow

$(AIRFLOW)/.installed: examples/airflow/requirements.lock
	$(PYTHON) -m venv $(AIRFLOW)
	$(AIRFLOW)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

test-airflow: setup $(AIRFLOW)/.installed ## the DAG of examples/airflow, run by Airflow in an environment of its own
	QARM_TEST_AIRFLOW=$(abspath $(AIRFLOW))/bin/airflow $(BIN)/python -m pytest -m slow tests/examples/test_airflow.py

check: setup ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: setup ## mend what check would say
	$(BIN)/ruff check --fix --quiet .
	$(BIN)/ruff format .

docs: setup ## write docs/reference anew from settings, tables, jobs and commands
	$(BIN)/python docs/generate_reference.py

site: setup ## the documentation site in site/, without network; a warning fails it
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

lock: setup ## write requirements.lock, with the hash of every file, anew from pyproject.toml
	printf '%s\n' $(BUILD_TOOLS) | $(BIN)/uv pip compile pyproject.toml - --all-extras --universal --python-version 3.11 \
		--generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links --quiet \
		--output-file requirements.lock
	printf '%s\n' apache-airflow-core==3.3.2 apache-airflow-providers-standard | $(BIN)/uv pip compile - --universal \
		--python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links --quiet \
		--output-file examples/airflow/requirements.lock

bench: setup ## every benchmark; each prints a ratio against a peer of the same run
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

calibrate: setup ## the constants of `qarm plan`, measured on this machine, in plan_constants.json
	$(BIN)/python benchmarks/calibrate.py

clean: ## remove what demo and tests made, not the virtual environment
	rm -rf $(DEMO) $(DEMO)_multimodal site .coverage .mypy_cache .pytest_cache .ruff_cache spark-warehouse
