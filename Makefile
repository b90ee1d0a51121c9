# Thin: set-up, then the package or pytest does the work. `make help` lists what there is.
#
#   make book                                        the study, preset laptop, and its book
#   make book TASKS="inference" SEEDS="23 24"          another study
#   make book TRACKS=scratch                         without the adapters on one base: half the time
#   make book SET="n_embd=64 site=ln_2"              other parameters (src/memgen/config/ lists them)
#   make book NUMERICS=portable                      the same numbers on every x86-64 processor with AVX2

PYTHON  ?= python3
VENV    ?= .venv
PRESET  ?= laptop
TASKS   ?= arithmetic-tagged arithmetic-matched inference cipher-tagged cipher-matched
SEEDS   ?= 23 24 25
TRACKS  ?= scratch lora
RUNS    ?= data/runs
SET     ?=
NUMERICS ?= native
JOBS    ?= 2
OUT     ?= _build
LABS    ?= all
LAB     ?= 01_dataset_design
TASK    ?= arithmetic-tagged
SEED    ?= $(firstword $(SEEDS))
TRACK   ?= $(firstword $(TRACKS))
BIN     := $(VENV)/bin
READY   := $(VENV)/.ready
PIP     := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps
MEMGEN  := $(BIN)/python -m memgen.pipeline.cli
PRESS   := $(BIN)/python -m press.cli
PICTURE := book/_static/figures/rulegraph.svg
STUDY   := --preset $(PRESET) --tasks $(TASKS) --seeds $(SEEDS) --tracks $(TRACKS) --runs $(RUNS) \
           --jobs $(JOBS) --set numerics=$(NUMERICS) $(SET)

.DEFAULT_GOAL := help
.PHONY: help setup book pdf labs lab check test quick mutation verify scale arms bench rulegraph lock browser exercises \
        clean clean-runs

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F'\t' '{printf "  make %-11s %s\n", $$1, $$2}'
	@echo "  settings: PRESET=$(PRESET) TASKS=\"...\" SEEDS=\"$(SEEDS)\" TRACKS=\"$(TRACKS)\" SET=\"name=value ...\" RUNS=$(RUNS) JOBS=$(JOBS)"

# torch: PyTorch's build for processors alone if pip finds it, else the one with CUDA's libraries
$(READY): requirements.txt requirements-cpu.txt requirements-cuda.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0])'
	@echo "set-up: virtual environment in $(VENV) and pinned requirements, about 2 min once"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --require-hashes -r requirements-cpu.txt 2>/dev/null || $(PIP) --require-hashes -r requirements-cuda.txt
	@$(PIP) --require-hashes -r requirements.txt && $(PIP) --no-build-isolation -e .
	@$(BIN)/python -m pip check
	@touch $@

setup: $(READY) ## virtual environment and requirements

book: labs ## run the study and build the book: _build/html/index.html
	@$(PRESS) book --runs $(RUNS)/$(PRESET) --out $(OUT) --tasks $(TASKS) --seeds $(SEEDS) --tracks $(TRACKS)

pdf: $(READY) browser ## print the built book to _build/think-or-remember.pdf; LABS=first or none: without most labs
	@$(PRESS) pdf --html $(OUT)/html --labs $(LABS)

labs: $(READY) ## run the study without the book
	@$(MEMGEN) labs $(STUDY)

check: $(READY) ## check the parameters, run nothing
	@$(MEMGEN) check $(STUDY) && echo "parameters are fine"

lab: $(READY) ## run one lab alone: make lab LAB=04_differentiation TASK=inference SEED=23 SET="site=ln_2"
	@$(MEMGEN) lab $(LAB) --task $(TASK) --seed $(SEED) --preset $(PRESET) --track $(TRACK) --runs $(RUNS) \
	  --out $(OUT)/$(LAB).ipynb --set numerics=$(NUMERICS) '$(subst ','\'',$(SET))'

test: $(READY) browser ## every test, all labs in preset smoke and that book included
	@$(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal --cov

quick: $(READY) ## the tests of a minute: no study, no book, nothing slow
	@$(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal -m "not slow" tests/unit tests/test_house.py

mutation: $(READY) ## break stats, neurons and steering on purpose: do the tests notice? An hour or more
	@$(BIN)/python -m mutmut run --max-children $(JOBS); $(BIN)/python tests/mutation/survivors.py

verify: labs ## run the study and compare its key numbers and verdicts with data/reference/
	@$(MEMGEN) verify check --preset $(PRESET) --runs $(RUNS)

scale: $(READY) ## the scale sweep, hours: SEEDS="23 24"; ends with data/reference/scale/results.csv
	@$(MEMGEN) scale run --seeds $(SEEDS) --jobs $(JOBS)
	@$(MEMGEN) scale collect

rulegraph: $(READY) ## draw the study as Snakemake plans it: the picture on the page Re-execute (needs graphviz)
	@$(BIN)/snakemake --quiet all --rulegraph --directory $(OUT) --config tracks='[scratch, lora]' | tred | dot -Tsvg -o $(PICTURE)

lock: $(READY) ## compile requirements.txt and its two companions from pyproject.toml
	@$(BIN)/python .ci/lock

arms: $(READY) ## who is taught the rule, and on what the loss is: half an hour; ends with data/reference/arms/results.csv
	@$(MEMGEN) arms run --seeds $(SEEDS) --jobs $(JOBS)
	@$(MEMGEN) arms collect

bench: $(READY) ## time capture and sweep against plain forward passes
	@$(BIN)/python tests/benchmarks/bench_capture.py
	@$(BIN)/python tests/benchmarks/bench_sweep.py

browser: # a headless Chromium, for the tests of the book and to print it
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
	  { echo "set-up: installing Chromium"; \
	    $(if $(filter 0,$(shell id -u)),,sudo) sh -c 'apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium nodejs' >/dev/null; } || \
	  echo "no Chromium: the browser tests will be skipped, and the book cannot be printed; install it"

exercises: $(READY) ## the students' notebooks, with gaps: _build/exercises/
	@$(PRESS) students $(OUT)/exercises

clean: ## remove the built book
	@rm -rf $(OUT)

clean-runs: ## remove all results of all runs
	@rm -rf $(RUNS)
