# The two commands of a fresh machine: `make demo` and `make test`. `make check` is what CI runs, `make help` lists all.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: help demo quick test check search torture lint bench league docs figures wheel install clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s  %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.installed ## make a small synthetic corpus, train a small S2pecNet on it, score and plot it
	$(BIN)/python download_dataset.py --demo ./demo_corpus/LA
	$(BIN)/python main.py --config ./config/demo.conf --comment demo
	@echo "plots: exp_result/LA_demo_*_demo/figures.png (a synthetic corpus: it proves nothing about speech)"

quick: $(VENV)/.installed-dev ## run the tests that take a second or less each, in parallel
	$(BIN)/python -m pytest -m "not slow" -n auto
	@echo "left out: the slow tests (end to end, full-size systems, fuzzing); make test runs all"

test: $(VENV)/.installed-dev ## run all tests, in parallel
	$(BIN)/python -m pytest -n auto

check: $(VENV)/.installed-dev lint test ## lint and test: what CI runs

search: $(VENV)/.installed-dev ## try inputs that nobody has seen: the property tests with new examples
	$(BIN)/python -m pytest -n auto -m hypothesis --hypothesis-profile=search

torture: $(VENV)/.installed-dev ## let every call that touches a file fail, and kill the run at each: an hour, prints a table
	$(BIN)/python -m tests.torture

lint: $(VENV)/.installed-dev ## ruff, mypy, and whether the reference of configs is up to date
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m tools.config_reference --check

bench: $(VENV)/.installed ## measure speed and memory on this machine
	$(BIN)/python -m benchmarks

league: $(VENV)/.installed ## train the small systems on CORPUS=DIR with five seeds each (hours; continues where it was stopped)
	$(BIN)/python -m benchmarks.league --corpus $(CORPUS)

docs: $(VENV)/.installed ## write docs/config.md and config/config.schema.json from the code
	$(BIN)/python -m tools.config_reference

figures: demo ## make the pictures of README.md from the run of the demo
	$(BIN)/python -m tools.readme_figures exp_result/LA_demo_*_demo

wheel: $(VENV)/.installed-dev ## build the package into dist/
	rm -rf build dist
	$(BIN)/python -m pip wheel . --quiet --no-deps --no-build-isolation --wheel-dir dist
	rm -rf build

install: $(VENV)/.installed ## install the command s2pecnet into .venv
	$(BIN)/python -m pip install --quiet ".[report,arena]"
	rm -rf build
	@echo "$(BIN)/s2pecnet --help"

$(VENV)/.installed: requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --requirement requirements-dev.txt
	touch $@

clean: ## remove caches, what was built, and the demo corpus
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis demo_corpus build dist *.egg-info
