# Every target makes what it needs: a virtual environment in .venv, installed once and again when a pin changes.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
AS_ROOT = $(shell test "$$(id -u)" = 0 || echo sudo -n)

.PHONY: cartpole soccer soccer-worker test chromium postgres faults check audit format bench clean

cartpole: $(VENV)/installed
	$(BIN)/python -m tuner.sweep cartpole --time 15m $(ARGS)

soccer: $(VENV)/installed soccer-worker
	$(BIN)/python -m tuner.sweep soccer $(ARGS)

# Without an old interpreter this says so, and soccer is played on the field.
soccer-worker: $(VENV)/installed
	@$(BIN)/python -m tuner.doctor --install-soccer || echo "soccer is played on the field alone" >&2

# Two runs of pytest side by side; what the first one says is shown when both have ended.
define side_by_side
@$(BIN)/python -m pytest $(1) >$(VENV)/apart.txt 2>&1 & apart=$$!; \
$(BIN)/python -m pytest $(2); rest=$$?; \
wait $$apart; code=$$?; cat $(VENV)/apart.txt; exit $$((rest ? rest : code))
endef

# These wait more than they work.
APART = tests/faults tests/test_cluster_guide.py tests/test_cluster_sweep.py

test: $(VENV)/installed-test soccer-worker chromium postgres
	$(call side_by_side,$(APART),$(APART:%=--ignore=%))

# The tests of the page drive a browser; where there is none, Debian's is installed, if that can be done unasked.
chromium: $(VENV)/installed-test
	@$(BIN)/python -m tests.browser >/dev/null 2>&1 || { \
	    command -v apt-get >/dev/null && $(AS_ROOT) apt-get update -qq && \
	    $(AS_ROOT) apt-get install -y -qq --no-install-recommends chromium >/dev/null; \
	} || echo "error: no browser for the tests of the page; install Chromium (Debian: apt-get install chromium)" >&2

# The tests of --storage start a PostgreSQL of their own; where there is none, Debian's is installed, if that can be done unasked.
postgres: $(VENV)/installed-test
	@$(BIN)/python -m tests.postgres >/dev/null 2>&1 || { \
	    command -v apt-get >/dev/null && $(AS_ROOT) apt-get update -qq && \
	    $(AS_ROOT) apt-get install -y -qq --no-install-recommends postgresql >/dev/null; \
	} || echo "error: no PostgreSQL for the tests of --storage; install it (Debian: apt-get install postgresql)" >&2

# The long form of tests/faults; the drivers that die hundreds of times run apart. `make test` holds the quick form.
HUNDREDS = tests/faults/test_driver.py tests/faults/test_state.py

faults: export TUNER_FAULTS = long
faults: $(VENV)/installed-test
	$(call side_by_side,--timeout=7200 $(HUNDREDS),--timeout=7200 $(HUNDREDS:%=--ignore=%) tests/faults)

# The scan for secrets leaves out plain_tune.json, which holds hashes of weights.
check: $(VENV)/installed-test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	git ls-files -z | xargs -0 $(BIN)/detect-secrets-hook --no-verify --exclude-files plain_tune.json

# Known vulnerabilities of every pinned version. It asks PyPI, so it is no part of what runs on every change; a package that
# could not be looked up fails it.
audit: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[audit]'
	$(BIN)/pip-audit --strict --no-deps --disable-pip -r constraints.txt

format: $(VENV)/installed-test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/installed-bench
	$(BIN)/python -m benchmarks.speed $(ARGS) && $(BIN)/python -m benchmarks.parity && $(BIN)/python -m benchmarks.tricks && $(BIN)/python -m benchmarks.soccer

clean:
	rm -rf $(VENV) build dist *.egg-info

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; v = sys.version_info; ok = (3, 10) <= v < (3, 14); sys.exit(None if ok else f"error: Python {v[0]}.{v[1]} found, 3.10 to 3.13 needed; name one: make PYTHON=python3.11 $(MAKECMDGOALS)")'
	$(PYTHON) -m venv $(VENV)

# torch goes first: the pinned build must be there before anything asks for a wider range.
$(VENV)/installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

$(VENV)/installed-bench: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	touch $@
