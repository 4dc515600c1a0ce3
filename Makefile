# make demo   the whole pipeline on the synthetic world      make test   the tests
# Both work on a fresh machine with Python 3.11 or 3.12; everything else goes into .venv.

WORK ?= work
CONFIG ?=
ARGS ?=

# The first of these that runs and is 3.11 or 3.12; override with make PYTHON=/path/to/python.
CANDIDATES := python3.11 python3.12 python3 python $(wildcard $(HOME)/.pyenv/versions/3.1[12].*/bin/python)
FITS := import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))
PYTHON ?= $(shell for p in $(CANDIDATES); do if $$p -c '$(FITS)' 2>/dev/null; then echo $$p; break; fi; done)

BIN := .venv/bin
STAGES := synth index extract-features build-memory materialize distill finetune evaluate report

.PHONY: help demo ablation test test-slow bench bench-gpu lint format plan doctor venv clean-venv $(STAGES)

help:
	@echo "make demo | ablation | test | test-slow | bench | bench-gpu | lint | format | plan | doctor | venv | clean-venv"
	@echo "make <stage> [CONFIG=configs/x.yaml] [WORK=work] [ARGS='--workers 4'], one of: $(STAGES)"

demo: venv
	$(BIN)/lima run configs/demo.yaml --work $(WORK) $(ARGS)

ablation: venv
	$(BIN)/lima ablate $(or $(CONFIG),configs/ablation.yaml) --work $(WORK) $(ARGS)

$(STAGES): venv
	$(BIN)/lima stage $@ $(if $(CONFIG),--config $(CONFIG)) --work $(WORK) $(ARGS)

plan doctor: venv
	$(BIN)/lima $@ $(if $(filter plan,$@),$(CONFIG)) --work $(WORK) $(ARGS)

test: venv
	$(BIN)/python -m pytest $(ARGS)

test-slow: venv
	$(BIN)/python -m pytest -m "slow or not slow" $(ARGS)

bench: venv
	$(BIN)/python -m benchmarks.session --minutes $(or $(MINUTES),30) $(ARGS)

# With the packages of python3 as it is: where the GPU is, there may be no network to make a .venv from.
bench-gpu:
	$(if $(filter command line environment,$(origin PYTHON)),$(PYTHON),python3) -m benchmarks.session --device cuda --minutes $(or $(MINUTES),8) $(ARGS)

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: venv
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

venv: .venv/.installed

# The stamp is written last: an installation that was cut short is done again.
.venv/.installed: pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: needs Python 3.11 or 3.12, found neither; make PYTHON=/path/to/python" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --prefer-binary --no-compile -e '.[dev]'
	@touch $@

clean-venv:
	rm -rf .venv
