# Every target sets up what it needs in .venv by itself; nothing outside this folder is changed, but by system-deps.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CODE := src tests benchmarks
export TAXLEDGER_DATA ?= ../shared/data

.DEFAULT_GOAL := help
.PHONY: help demo engine test test-engine test-long check bench acceptance build lock system-deps clean

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("expected Python 3.11 or newer, got " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "no venv module: try make system-deps"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

ENGINE ?= embedded

demo: $(READY) $(if $(filter cometbft,$(ENGINE)),engine) ## The whole story: eight members, three loans, fraud stopped, in demo/ (ENGINE=cometbft: BFT ordering)
	$(BIN)/taxledger demo --dir demo --engine $(ENGINE)

engine: $(READY) ## Build the BFT ordering engine, CometBFT, with Go (once)
	@$(BIN)/taxledger engine install

# Two files at a time: most tests wait for nodes, disks and clocks. Real networks take ports that are free when chosen.
test: $(READY) ## All tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-engine: $(READY) engine ## The tests of whole networks once more, ordered by CometBFT
	$(BIN)/python -m pytest tests/e2e --engine cometbft

test-long: $(READY) ## The tests that take longer: a hundred crashes, a million records
	$(BIN)/python -m pytest -m "slow or large"

check: $(READY) ## Format, lint, strict types, architecture
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py

bench: $(READY) ## Benchmarks, beside the machine's own primitives; writes benchmarks/results/latest.json
	$(BIN)/python -m benchmarks

acceptance: $(READY) ## Walk the acceptance list with the real data of TAXLEDGER_DATA
	$(BIN)/python -m tests.acceptance.run --report acceptance

build: $(READY) ## Wheel and source distribution in dist/
	$(BIN)/python -m build --no-isolation --outdir dist .

lock: ## Renew requirements.lock from pyproject.toml (newest versions that fit)
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet '.[node,lending,lending-postgres,hsm]' --group dev
	{ echo "# Exact versions for development and CI: make lock. No addresses: pip's own settings say where from."; \
	  build/lock/bin/python -m pip freeze --exclude taxledger; } > requirements.lock
	rm -rf build/lock

SYSTEM_PACKAGES := python3-venv python3-dev g++ libleveldb-dev softhsm2 chromium postgresql \
	iproute2 nftables faketime
SUDO := $(shell test "$$(id -u)" = 0 || echo sudo)

system-deps: ## Debian packages for tests (SoftHSM, Chromium, PostgreSQL, network namespaces, libfaketime), and for plyvel where no ready-made wheel fits
	$(SUDO) apt-get update
	$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $(SYSTEM_PACKAGES)

clean: ## Remove what was built; keeps .venv
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
