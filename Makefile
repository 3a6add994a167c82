# The two commands of the README, and what they need. Everything lives in .venv; nothing outside it is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The oldest Flower that is accepted; on the newest, tests/simulation/test_other_flower.py and a job of CI run.
FLOWER ?= flwr<1.42
# Processes that share the tests, a file of tests at a time; real federations are tested by one.
WORKERS ?= 2
INSTALLED := $(VENV)/.installed

.PHONY: demo demo-hard federation test test-slow test-kills lint docs bench bench-all clean docker/compose.yml

# A finished federated run by `flwr run`: FedLAW, then FedAvg, on the same silos, a fifth of them hostile.
demo: $(INSTALLED)
	$(BIN)/fedlaw demo

# The case where the published algorithm loses at this size, shown as such.
demo-hard: $(INSTALLED)
	$(BIN)/fedlaw demo --hard

# Five silos in containers, one hostile: images, keys, registration, a run, its verdict, and down again. Needs a Docker
# engine with compose. On x86-64 PyPI's torch brings CUDA's libraries, gigabytes of them: with
# make federation BUILD='TORCH_INDEX=URL' torch comes from another index, that of PyTorch's CPU wheels for one.
federation: $(INSTALLED)
	$(BIN)/fedlaw deploy init --drill deploy/federation.yaml
	$(BIN)/fedlaw deploy containers build deploy/federation.yaml $(BUILD)
	trap '$(BIN)/fedlaw deploy containers down --volumes deploy/federation.yaml' EXIT; trap 'exit 130' INT TERM; \
	$(BIN)/fedlaw deploy containers up deploy/federation.yaml && \
	$(BIN)/fedlaw deploy containers run deploy/federation.yaml

# The same federation's compose file, to be read; tests/test_compose.py says when it is out of step.
docker/compose.yml: $(INSTALLED)
	$(BIN)/python -m fedlaw_flwr.deploy.compose deploy/federation.yaml ../deploy/demo >$@

test: lint
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile

# What cannot run here, containers without an engine for one, is named at the end with its reason. Silos have deadlines, so
# real federations have the machine to themselves.
test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow -rfEs --durations 15 tests/deploy
	$(BIN)/python -m pytest -m slow -rfEs --durations 15 --ignore tests/deploy --numprocesses $(WORKERS) --dist loadfile

# The server's container killed, and everything killed as by a power cut: five minutes beside those of test-slow.
test-kills: $(INSTALLED)
	FEDLAW_CONTAINER_KILLS=1 FEDLAW_POWER_CUT=1 $(BIN)/python -m pytest -m slow -rfEs --durations 15 \
		tests/deploy/test_containers.py tests/deploy/test_resumed_federation.py

# Style, types, which package imports which, and the documentation with every link in it.
lint: $(INSTALLED) docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# The documentation as a site, in site/. A warning is an error.
docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# The tables of docs/performance.md, in minutes.
bench: $(INSTALLED)
	$(BIN)/python -m benchmarks

# Those and the long ones, which print their figures: checkpoints, the ledger, engines, a deployed federation.
bench-all: $(INSTALLED)
	$(BIN)/python -m benchmarks all

$(INSTALLED): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 ...")'
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@echo 'Installing everything into $(VENV), some gigabytes and some minutes the first time.'
	$(BIN)/pip install --disable-pip-version-check --editable '.[simulation,vision,report,tabular,sql,deploy,docs,dev]' '$(FLOWER)'
	touch $@

clean:
	rm -rf $(VENV) build dist site *.egg-info
