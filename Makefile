# `make demo` and `make test` are all a newcomer needs: each builds its own environment first.
VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= python3
DEMO_DIR ?= demo_workdir
# Continuous integration sets CI=true; then the slow tests run too, and coverage is measured.
MARKERS := $(if $(CI),not long,not slow and not long)
COVERAGE := $(if $(CI),--cov --cov-report=term)
# torch and nnU-Net are imported in many processes, and take three times as long without their bytecode.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-long gpu lint style types fmt

demo: $(VENV)/.installed
	$(BIN)/unetr_nnunet demo $(DEMO_DIR)

test: $(VENV)/.installed-dev
	$(MAKE) --jobs=2 --output-sync lint
	$(BIN)/pytest -n 2 --dist loadgroup --no-loadscope-reorder --durations=25 $(COVERAGE) -m "$(MARKERS)"

# The tutorial, from a download to its table: some twenty minutes on two cores.
test-long: $(VENV)/.installed-dev
	$(BIN)/pytest -n 2 --dist loadgroup -m long

# Everything that a GPU changes, in about ten minutes: docs/how-to/gpu.md. Without $(VENV) it runs $(PYTHON).
gpu:
	$(or $(wildcard $(BIN)/python),$(PYTHON)) -m benchmarks.gpu $(GPU_OPTIONS)

lint: style types

style: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pylint unetr_nnunet benchmarks tests

types: $(VENV)/.installed-dev
	$(BIN)/mypy

fmt: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# uv unpacks torch's CUDA libraries in a fraction of pip's time.
UV := $(BIN)/uv
INSTALL := VIRTUAL_ENV=$(VENV) $(UV) pip install --constraint constraints.txt --editable

$(UV):
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv

$(VENV)/.installed: pyproject.toml constraints.txt | $(UV)
	$(INSTALL) .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(INSTALL) '.[dev]'
	touch $@
