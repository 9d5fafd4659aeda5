# The two commands of a fresh machine: `make demo` and `make test`. `make check` is what CI runs.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test check lint bench clean

demo: $(VENV)/.installed
	$(BIN)/python download_dataset.py --demo ./demo_corpus/LA
	$(BIN)/python main.py --config ./config/demo.conf --comment demo
	@echo "figures: exp_result/LA_demo_*_demo/figures.png (a synthetic corpus: it proves nothing about speech)"

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest

check: $(VENV)/.installed-dev lint test

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks

$(VENV)/.installed: requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --requirement requirements-dev.txt
	touch $@

clean:
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis demo_corpus
