# The two commands of the README, and what they need. Everything lives in .venv; nothing outside it is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo demo-hard test test-slow lint bench clean

# A finished federated run by `flwr run`: FedLAW, then FedAvg, on the same silos, a fifth of them hostile.
demo: $(INSTALLED)
	$(BIN)/fedlaw demo

# The case where the published algorithm loses at this size, shown as such.
demo-hard: $(INSTALLED)
	$(BIN)/fedlaw demo --hard

test: lint
	$(BIN)/python -m pytest

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks

$(INSTALLED): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 ...")'
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[simulation,vision,report,dev]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
