# Everything a newcomer can do. Each target makes the virtual environment it needs by itself.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LINTED := nnc grammar frontend ir passes backends runtime tests benchmarks examples

.PHONY: help demo test lint format bench docs slow clean

help:            ## list these targets
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,bench]'
	touch $(STAMP)

demo: $(STAMP)   ## train the 8x8 digits and show the result
	$(BIN)/nnc train examples/digits.nn --out runs/digits

test: $(STAMP)   ## run the tests
	$(BIN)/python -m pytest -m "not slow" -n 2

slow: $(STAMP)   ## run the tests that take long
	$(BIN)/python -m pytest -m slow

lint: $(STAMP)   ## check format, style and types
	$(BIN)/ruff format --check $(LINTED)
	$(BIN)/ruff check $(LINTED)
	$(BIN)/mypy
	$(BIN)/nnc fmt --check $(LINTED)

format: $(STAMP) ## format the code
	$(BIN)/ruff format $(LINTED)
	$(BIN)/ruff check --fix $(LINTED)
	$(BIN)/nnc fmt $(LINTED)

bench: $(STAMP)  ## compare with PyTorch and JAX, where they are installed
	$(BIN)/python -m benchmarks.run

docs: $(STAMP)   ## write the documentation as web pages, in docs/_build
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	$(BIN)/python -m sphinx -W -q -b html docs docs/_build

clean:           ## remove what the other targets made
	rm -rf $(VENV) runs build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis docs/_build
