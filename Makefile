# Thin: set-up, then the package or pytest does the work. `make help` lists what there is.
#
#   make book                                        the study, preset laptop, and its book
#   make book TASKS="inference" SEEDS="6 7"          another study
#   make book TRACKS=scratch                         without the adapters on one base: half the time
#   make book SET="n_embd=64 site=ln_2"              other parameters (src/memgen/config.py lists them)

PYTHON  ?= python3
VENV    ?= .venv
PRESET  ?= laptop
TASKS   ?= arithmetic-tagged arithmetic-matched inference cipher-tagged cipher-matched
SEEDS   ?= 6 7 8
TRACKS  ?= scratch lora
RUNS    ?= data/runs
SET     ?=
JOBS    ?= 2
OUT     ?= _build
LABS    ?= all
LAB     ?= 01_dataset_design
TASK    ?= arithmetic-tagged
SEED    ?= $(firstword $(SEEDS))
TRACK   ?= $(firstword $(TRACKS))
BIN     := $(VENV)/bin
READY   := $(VENV)/.ready
STUDY   := --preset $(PRESET) --tasks $(TASKS) --seeds $(SEEDS) --tracks $(TRACKS) --runs $(RUNS) --jobs $(JOBS) --out $(OUT) $(if $(SET),--set $(SET))

.DEFAULT_GOAL := help
.PHONY: help setup book pdf labs lab check test verify scale bench browser lint exercises clean clean-runs

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F'\t' '{printf "  make %-11s %s\n", $$1, $$2}'
	@echo "  settings: PRESET=$(PRESET) TASKS=\"...\" SEEDS=\"$(SEEDS)\" TRACKS=\"$(TRACKS)\" SET=\"name=value ...\" RUNS=$(RUNS) JOBS=$(JOBS)"

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0])'
	@echo "set-up: virtual environment in $(VENV) and pinned requirements, about 2 min once"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -e .
	@touch $@

setup: $(READY) ## virtual environment and requirements

book: $(READY) ## run the study and build the book: _build/html/index.html
	@$(BIN)/python -m memgen.study book $(STUDY)

pdf: $(READY) browser ## print the built book to _build/think-or-remember.pdf; LABS=first or none: without most labs
	@$(BIN)/python -m memgen.pdf --html $(OUT)/html --labs $(LABS)

labs: $(READY) ## run the study without the book
	@$(BIN)/python -m memgen.study labs $(STUDY)

check: $(READY) ## check the parameters, run nothing
	@$(BIN)/python -m memgen.study check $(STUDY) && echo "parameters are fine"

lab: $(READY) ## run one lab alone: make lab LAB=04_differentiation TASK=inference SEED=6 SET="site=ln_2"
	@$(BIN)/papermill notebooks/$(LAB).ipynb $(OUT)/$(LAB).ipynb --cwd . --no-progress-bar \
	  -p task $(TASK) -p seed $(SEED) -p preset $(PRESET) -p runs $(RUNS) -p track $(TRACK) $(foreach s,$(SET),-p $(subst =, ,$(s)))
	@echo "executed: $(OUT)/$(LAB).ipynb"

test: $(READY) browser ## every test, all labs in preset smoke and that book included
	@$(BIN)/python -m pytest

verify: labs ## run the study and compare its key numbers and verdicts with data/reference/
	@$(BIN)/python -m memgen.verify check --preset $(PRESET) --runs $(RUNS)

scale: $(READY) ## the scale sweep, hours: SEEDS="6 7"; ends with data/reference/scale/results.csv
	@$(BIN)/python -m memgen.scale run --seeds $(SEEDS) --jobs $(JOBS)
	@$(BIN)/python -m memgen.scale collect

bench: $(READY) ## time capture and sweep against plain forward passes
	@$(BIN)/python tests/benchmarks/bench_capture.py
	@$(BIN)/python tests/benchmarks/bench_sweep.py

browser: # a headless Chromium, for the tests of the book and to print it
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
	  { echo "set-up: installing Chromium"; \
	    $(if $(filter 0,$(shell id -u)),,sudo) sh -c 'apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium nodejs' >/dev/null; } || \
	  echo "no Chromium: the browser tests will be skipped, and the book cannot be printed; install it"

exercises: $(READY) ## the students' notebooks, with gaps: _build/exercises/
	@$(BIN)/python -m memgen.teaching students $(OUT)/exercises

clean: ## remove the built book
	@rm -rf $(OUT)

clean-runs: ## remove all results of all runs
	@rm -rf $(RUNS)
