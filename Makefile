# Thin: set-up, then the package or pytest does the work. `make help` lists what there is.
#
#   make book                                        the study, preset laptop, and its book
#   make book TASKS="inference" SEEDS="23 24"          another study
#   make book TRACKS=scratch                         without the adapters on one base: half the time
#   make book SET="n_embd=64 site=ln_2"              other parameters (src/memgen/config/ lists them)
#   make book PROFILE=slurm                          on a cluster (profiles/slurm/config.yaml)
#   make book TASK_FILE=my.csv                       your own prompts, on a pretrained model (preset real, track given)
#   make book NUMERICS=portable                      the same numbers on every x86-64 processor with AVX2

# Settings count where they are written after `make`, nowhere else: `=` wins over an exported variable of the
# same name. Their text reaches a command quoted: $(call q,...) as one word, $(call each,...) word by word.
PYTHON  = python3
VENV    = .venv
TASK_FILE =
SIZES   =
PRESET  = $(if $(TASK_FILE),real,laptop)
TASKS   = arithmetic-tagged arithmetic-matched inference cipher-tagged cipher-matched
SEEDS   = $(if $(TASK_FILE),26,26 27 28 29)
TRACKS  = $(if $(TASK_FILE),given,scratch lora)
RUNS    = data/runs
SET     =
NUMERICS = native
PROFILE = none
JOBS    = 2
OUT     = _build
LABS    = all
ELSEWHERE = no
LAB     = 01_dataset_design
TASK    = arithmetic-tagged
SEED    = $(firstword $(SEEDS))
TRACK   = $(firstword $(TRACKS))
MODEL   = smollm2-135m-instruct
ACCEPT  =
WHEELHOUSE =
ADDRESS =

q       = '$(subst ','\'',$1)'
each    = $(foreach one,$1,$(call q,$(one)))
SETTINGS := PYTHON VENV TASK_FILE PRESET TASKS SEEDS TRACKS RUNS SET NUMERICS PROFILE JOBS OUT LABS ELSEWHERE LAB TASK SEED TRACK MODEL ACCEPT WHEELHOUSE ADDRESS SIZES
hash    := \#
open    := (
close   := )
define newline


endef
# what make itself, or the shell that a rule's file name passes through, would read as something else
UNFIT   := ' " ` * ? : % ; | & < > { } [ ] ~ ! = \ $(open) $(close) $(hash)
$(if $(wildcard src/memgen/__init__.py),,$(error run make in the repository's folder: $(CURDIR) is not it))
$(foreach name,$(SETTINGS),\
  $(if $(findstring environment,$(origin $(name))),$(error $(name) comes from the environment (make -e), which is not read; write it after make: make ... $(name)=...))\
  $(if $(findstring command,$(origin $(name))),\
    $(if $(findstring $$,$(value $(name))),$(error $(name) contains a dollar sign, which make reads itself; choose a value without))\
    $(if $(findstring $(newline),$(value $(name))),$(error $(name) contains a line break; choose a value without))\
    $(if $(filter-out SET ACCEPT WHEELHOUSE TASK_FILE SIZES,$(name)),$(if $(strip $(value $(name))),,$(error $(name) is empty; give it a value or leave it away)))))
$(if $(TASK_FILE),$(if $(findstring command,$(origin TASKS) $(origin TASK)),$(error TASK_FILE is the task: leave TASKS and TASK away)))
$(foreach mark,$(UNFIT),$(if $(findstring $(mark),$(VENV)),$(error VENV=$(VENV) contains $(mark): choose a folder of letters and digits for the environment)))
$(if $(word 2,$(VENV)),$(error VENV=$(VENV) contains a space: choose a folder without for the environment))
$(if $(findstring :,$(CURDIR)),$(error the repository lies in $(CURDIR), and Python cannot search a path with a colon: move it to a folder without))

# the package is this folder's, whatever the environment remembers or a shell exports; no file beside the
# Makefile is taken for a module (random.py), and a shell tells Python, pip and
# pytest nothing but where packages come from
export PYTHONPATH := $(CURDIR)/src
export PYTHONSAFEPATH := 1
SOURCES := PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_FIND_LINKS PIP_NO_INDEX PIP_CACHE_DIR PIP_NO_CACHE_DIR PIP_PROXY \
           PIP_CERT PIP_CLIENT_CERT PIP_TRUSTED_HOST PIP_TIMEOUT PIP_DEFAULT_TIMEOUT PIP_RETRIES PIP_CONFIG_FILE \
           PIP_KEYRING_PROVIDER PIP_ROOT_USER_ACTION
$(foreach name,$(filter-out PYTHONPATH PYTHONSAFEPATH $(SOURCES),\
  $(filter PYTHON% PIP_% PYTEST_% MEMGEN_ROOT MEMGEN_CLEAN MEMGEN_WARM MEMGEN_KEPT,$(.VARIABLES))),\
  $(eval unexport $(name)))
BIN     := $(VENV)/bin
READY   := $(VENV)/.ready
CLUSTER := $(VENV)/.cluster
# with a wheelhouse nothing else is asked: no index, no setting of pip's
FROM     = $(if $(WHEELHOUSE),--isolated --no-index --find-links $(call q,$(WHEELHOUSE)))
PIP      = PYTHONPATH= $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(FROM)
WHEELS   = PYTHONPATH= $(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
           --dest $(call q,$(or $(WHEELHOUSE),wheelhouse))
OURS    := PYTHONPATH=src PYTHONSAFEPATH=1 PYTHONHOME= $(call q,$(PYTHON)) -m memgen.store.ours
MEMGEN  := $(BIN)/python -m memgen.pipeline.cli
PRESS   := $(BIN)/python -m press.cli
PICTURE := book/_static/figures/rulegraph.svg
CHOSEN  = $(if $(TASK_FILE),--task-file $(call q,$(TASK_FILE)),--tasks $(call each,$(TASKS))) --seeds $(call each,$(SEEDS)) --tracks $(call each,$(TRACKS))
STUDY   = --preset $(call q,$(PRESET)) $(CHOSEN) --runs $(call q,$(RUNS)) --jobs $(call q,$(JOBS)) \
          --profile $(call q,$(PROFILE)) --set $(call q,numerics=$(NUMERICS)) $(call each,$(SET))
# preset and data sets of facts that make real takes, unless others are named; the wordings were settled on draws of seed 0
ASKED   = $(if $(findstring command,$(origin PRESET)),$(PRESET),real)
FACTS   = $(if $(findstring command,$(origin SEEDS)),$(SEEDS),26 27 28)
# what make real asks: MODEL, if it is named. Runs say in their folder which task, track and seed, not which
# model, so those of another model than the default have a folder of their own
NAMED   = $(findstring command,$(origin MODEL))
ANOTHER = $(if $(NAMED),$(filter-out smollm2-135m-instruct,$(MODEL)))
PLACED  = $(RUNS)$(if $(findstring command,$(origin RUNS)),,$(if $(ANOTHER),/$(MODEL)))

.DEFAULT_GOAL := help
.PHONY: help setup wheelhouse offline sphinx archive-check book pdf labs lab check test quick profile mutation torture processors cluster verify model real scale arms rivals bench bench-peers rulegraph lock browser \
        exercises class clean clean-runs

help: ## list the commands
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:[^#]*## /\t/' | awk -F'\t' '{printf "  make %-13s %s\n", $$1, $$2}'
	@echo $(call q,  settings: PRESET=$(PRESET) TASKS="..." SEEDS="$(SEEDS)" TRACKS="$(TRACKS)" SET="name=value ..." RUNS=$(RUNS) JOBS=$(JOBS))

# A copied or moved folder brings along an environment whose scripts and package are the other folder's
OTHER   := $(if $(wildcard $(READY)),$(shell $(OURS) environment $(VENV)))
$(if $(OTHER),$(eval .PHONY: $(READY)))

# torch: PyTorch's build for processors alone if pip finds it, else the one with CUDA's libraries
$(READY): requirements.txt requirements-cpu.txt requirements-cuda.txt pyproject.toml
	@$(call q,$(PYTHON)) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0])'
	@$(if $(WHEELHOUSE),test -d $(call q,$(WHEELHOUSE)) || { echo $(call q,WHEELHOUSE=$(WHEELHOUSE) is no folder; make one with make wheelhouse where there is a network) >&2; exit 1; })
	@$(OURS) renew $(VENV)
	@echo "set-up: virtual environment in $(VENV) and pinned requirements, about 2 min once"
	@$(call q,$(PYTHON)) -m venv $(VENV)
	@$(PIP) --require-hashes -r requirements-cpu.txt 2>/dev/null || $(PIP) --require-hashes -r requirements-cuda.txt
	@$(PIP) --require-hashes -r requirements.txt && $(PIP) --no-build-isolation -e .
	@$(OURS) installed $(VENV)
	@PYTHONPATH= $(BIN)/python -m pip check
	@touch $@

# Only where a cluster is asked for: Snakemake loads its plugins whenever it starts, and Slurm's looks for Slurm then
$(CLUSTER): requirements-cluster.txt $(READY)
	@$(PIP) --require-hashes -r requirements-cluster.txt
	@touch $@

setup: $(READY) ## virtual environment and requirements; WHEELHOUSE=folder: from there, without a network

wheelhouse: ## every pinned package for this system and Python, for a set-up without a network: wheelhouse/
	@test -x $(BIN)/python || $(call q,$(PYTHON)) -m venv $(VENV)
	@$(WHEELS) -r requirements-cpu.txt 2>/dev/null || $(WHEELS) -r requirements-cuda.txt
	@$(WHEELS) -r requirements.txt && $(WHEELS) -r requirements-sphinx.txt
	@echo $(call q,collected; where there is no network: make setup WHEELHOUSE=$(or $(WHEELHOUSE),wheelhouse))

offline: ## set up a fresh clone from wheelhouse/ with the network cut (Linux, as root); ends with tests/archive/offline.json
	@$(call q,$(PYTHON)) tests/archive/offline.py $(call q,$(or $(WHEELHOUSE),wheelhouse))

book: labs ## run the study and build the book: _build/html/index.html
	@$(PRESS) book --runs $(call q,$(RUNS)/$(PRESET)) --out $(call q,$(OUT)) $(CHOSEN)

# an exit from Jupyter Book 1.x, which holds Sphinx at 7: what `make book` staged, built by the Sphinx of today
sphinx: ## the staged book under plain Sphinx, in an environment of its own: _build/sphinx/index.html
	@test -f $(call q,$(OUT)/source/conf.py) || { echo $(call q,$(OUT)/source holds no staged book; run make book first) >&2; exit 1; }
	@test -x $(VENV)-sphinx/bin/python || $(call q,$(PYTHON)) -m venv $(VENV)-sphinx
	@PYTHONPATH= $(VENV)-sphinx/bin/python -m pip install --quiet --disable-pip-version-check --no-deps $(FROM) \
	  --require-hashes -r requirements-sphinx.txt
	@PYTHONPATH=$(call q,$(OUT)/source/_ext) $(VENV)-sphinx/bin/python -m sphinx --quiet --nitpicky --fail-on-warning \
	  --keep-going --fresh-env -d $(call q,$(OUT)/.doctrees-sphinx) $(call q,$(OUT)/source) $(call q,$(OUT)/sphinx)
	@echo $(call q,ready: $(OUT)/sphinx/index.html)

archive-check: $(READY) ## licences, citation, HTML, prose and links of every page, PDF: needs java and npm; ends with tests/archive/checked.json
	@test -x $(VENV)-archive/bin/python || $(call q,$(PYTHON)) -m venv $(VENV)-archive
	@PYTHONPATH= $(VENV)-archive/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
	  --require-hashes -r requirements-archive.txt
	@cp tests/archive/package.json tests/archive/package-lock.json $(VENV)-archive
	@npm ci --silent --ignore-scripts --prefix $(VENV)-archive
	@$(BIN)/python tests/archive/checked.py --tools $(VENV)-archive --book $(call q,$(OUT)/html)

pdf: $(READY) browser ## print the built book to _build/think-or-remember.pdf; LABS=first or none: without most labs
	@$(PRESS) pdf --html $(call q,$(OUT)/html) --labs $(call q,$(LABS))

labs: $(READY) $(if $(filter-out none,$(PROFILE)),$(CLUSTER)) ## run the study without the book; PROFILE=slurm: on a cluster
	@$(MEMGEN) labs $(STUDY)

check: $(READY) $(if $(filter-out none,$(PROFILE)),$(CLUSTER)) ## check the parameters, run nothing; ELSEWHERE=yes: of a study that another machine will run
	@$(MEMGEN) check $(STUDY) $(if $(filter yes,$(ELSEWHERE)),--elsewhere) && echo "parameters are fine"

lab: $(READY) ## run one lab alone: make lab LAB=04_differentiation TASK=inference SEED=23 SET="site=ln_2"
	@$(MEMGEN) lab $(call q,$(LAB)) $(if $(TASK_FILE),--task-file $(call q,$(TASK_FILE)),--task $(call q,$(TASK))) --seed $(call q,$(SEED)) --preset $(call q,$(PRESET)) \
	  --track $(call q,$(TRACK)) --runs $(call q,$(RUNS)) --out $(call q,$(OUT)/$(LAB).ipynb) \
	  --set $(call q,numerics=$(NUMERICS)) $(call q,$(SET))

test: $(READY) browser ## every test, all labs in preset smoke and that book included
	@PYTHONSAFEPATH= $(BIN)/python -m pytest --numprocesses $(call q,$(JOBS)) --dist worksteal --cov

quick: $(READY) ## the tests of a minute: no study, no book, nothing slow
	@PYTHONSAFEPATH= $(BIN)/python -m pytest --numprocesses $(call q,$(JOBS)) --dist worksteal -m "not slow" tests/unit tests/test_house.py

mutation: $(READY) ## break stats, neurons and steering on purpose: do the tests notice? An hour or more
	@PYTHONPATH= PYTHONSAFEPATH= $(BIN)/python -m mutmut run --max-children $(call q,$(JOBS)); $(BIN)/python tests/mutation/survivors.py

torture: $(READY) ## flip 100 bytes of results, fill the disk of a small study 10 times, kill it 50 times: is anything lost?
	@$(BIN)/python tests/torture/flip.py
	@$(BIN)/python tests/torture/full.py
	@$(BIN)/python tests/torture/kill.py

processors: $(READY) ## the labs of a small run under emulated processors (QEMU): the same bits? An hour or more
	@$(BIN)/python tests/torture/processors.py

cluster: $(READY) $(CLUSTER) ## run the smoke study in a Slurm of two nodes on this machine: drained, killed, cancelled. An hour or less
	@$(BIN)/python tests/cluster/run.py

verify: labs ## run the study and compare its key numbers and verdicts with data/reference/
	@$(MEMGEN) verify check --preset $(call q,$(PRESET)) --runs $(call q,$(RUNS))

model: $(READY) ## a pretrained model without a hub, once: data/models/smollm2-135m-instruct, for SET="base_model=..." (MODEL=, ACCEPT=, WHEELHOUSE=)
	@$(MEMGEN) model $(call q,$(MODEL)) $(if $(ACCEPT),--accept $(call q,$(ACCEPT))) $(if $(WHEELHOUSE),--wheelhouse $(call q,$(WHEELHOUSE)))

real: $(READY) ## a pretrained model about what it knows, minutes a data set: MODEL=gemma3-270m SEEDS="26 27 28"; ends in data/reference/real (PRESET=real-relations: whole relations held back)
	@$(if $(NAMED),$(MEMGEN) real check --model $(call q,$(MODEL)))
	@$(MEMGEN) labs --preset $(call q,$(ASKED)) --tasks knowledge --tracks given --seeds $(call each,$(FACTS)) --runs $(call q,$(PLACED)) --jobs $(call q,$(JOBS)) \
	  --set $(call q,numerics=$(NUMERICS)) $(if $(NAMED),$(call q,base_model=data/models/$(MODEL))) $(call each,$(SET))
	@$(MEMGEN) real collect --seeds $(call each,$(FACTS)) --runs $(call q,$(PLACED))

scale: $(READY) ## the scale sweep, hours: SEEDS="26 27" SIZES="64x4 768x12"; ends with data/reference/scale/results.csv
	@$(MEMGEN) scale run --seeds $(call each,$(SEEDS)) $(if $(SIZES),--sizes $(call each,$(SIZES))) --jobs $(call q,$(JOBS))
	@$(MEMGEN) scale collect

# an ordinary model's folder, as a hub holds one: that of a run of the study
TINY    = $(RUNS)/rehearsal/smoke/inference/seed0/02_training/model
.PHONY: rehearsal
rehearsal: $(READY) ## the way of a model from a hub, with a tiny one that is trained for it: about a minute, in <RUNS>/rehearsal
	@$(MEMGEN) labs --preset smoke --tasks inference --tracks scratch --seeds 0 --runs $(call q,$(RUNS)/rehearsal) --jobs $(call q,$(JOBS)) --labs 02_training
	@$(MEMGEN) labs --preset smoke --tasks inference --tracks lora --seeds 0 --runs $(call q,$(RUNS)/rehearsal) --jobs $(call q,$(JOBS)) \
	  --set $(call q,base_model=$(TINY)) $(call each,$(SET))

# the paper's own set-up on that model: three adapters a task, and what two tasks have in common
TAUGHT  = $(if $(findstring command,$(origin TASKS)),$(TASKS),inference arithmetic-tagged)
.PHONY: real-lora
real-lora: $(READY) ## adapters teach the pretrained model both behaviours, hours: SEEDS="26 27 28" TASKS=inference; ends in data/reference/real
	@$(MEMGEN) labs --preset real --tasks $(call each,$(TAUGHT)) --tracks lora --seeds $(call each,$(FACTS)) --runs $(call q,$(RUNS)) --jobs $(call q,$(JOBS)) \
	  --labs 05_prediction 07_transfer --set $(call q,numerics=$(NUMERICS)) $(call each,$(SET))
	@$(MEMGEN) real-lora collect --tasks $(call each,$(TAUGHT)) --seeds $(call each,$(FACTS)) --runs $(call q,$(RUNS))

rulegraph: $(READY) ## draw the study as Snakemake plans it: the picture on the page Re-execute (needs graphviz)
	@$(BIN)/python -m snakemake --quiet all --rulegraph --directory $(call q,$(OUT)) --config tracks='[scratch, lora]' | tred | dot -Tsvg -o $(PICTURE)

lock: $(READY) ## compile requirements.txt and its companions from pyproject.toml
	@$(BIN)/python .ci/lock

arms: $(READY) ## who is taught the rule, and on what the loss is: an hour or two; ends with data/reference/arms/results.csv
	@$(MEMGEN) arms run --seeds $(call each,$(SEEDS)) --jobs $(call q,$(JOBS))
	@$(MEMGEN) arms collect

rivals: $(READY) ## every method that steers or edits, and labs 14 to 16 for all seeds: SEEDS="26 27 28 29"; hours; ends in data/reference/rivals
	@$(MEMGEN) rivals run --tasks $(call each,$(TASKS)) --tracks $(call each,$(TRACKS)) --seeds $(call each,$(SEEDS)) --jobs $(call q,$(JOBS))
	@$(BIN)/python -m memgen.pipeline.modular_addition
	@$(BIN)/python -m memgen.pipeline.carried_vectors
	@$(MEMGEN) rivals collect

profile: $(READY) ## where the CPU seconds of a study went, by lab, track and phase; and <RUNS>/<PRESET>/profile.png
	@$(MEMGEN) profile --preset $(call q,$(PRESET)) --runs $(call q,$(RUNS))

bench: $(READY) ## time capture and sweep against plain forward passes; what portable kernels cost: tests/benchmarks/bench_numerics.py
	@$(BIN)/python tests/benchmarks/bench_capture.py
	@$(BIN)/python tests/benchmarks/bench_sweep.py

# The libraries agree on no versions: environments by what they ask for. One that cannot be set up is said to be
# missing in the table, and the others are measured.
PEERS   := traced numpy1 transformers4
NEEDED  := tests/benchmarks/peers
bench-peers: $(READY) ## time capture and sweep beside other libraries, up to an hour; ends in data/reference/performance
	@$(foreach one,$(PEERS),test -f $(VENV)-peers-$(one)/.ready || { \
	  $(call q,$(PYTHON)) -m venv $(VENV)-peers-$(one) && $(call INTO,$(one)) && touch $(VENV)-peers-$(one)/.ready; } || \
	  echo "bench-peers: no environment $(one)" >&2;)
	@PYTHONPATH=$(call q,$(CURDIR)/src:$(CURDIR)/tests) $(BIN)/python -m benchmarks.peers.run --environments=$(VENV)-peers-

INTO    = { $(call PEER,$1) requirements-cpu.txt 2>/dev/null || $(call PEER,$1) requirements-cuda.txt; } && \
          $(call PEER,$1) $(NEEDED)/requirements-$1.txt
PEER    = PYTHONPATH= $(VENV)-peers-$1/bin/python -m pip install --quiet --disable-pip-version-check --no-deps $(FROM) \
          --require-hashes -r

browser: # a headless Chromium, for the tests of the book and to print it
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
	  { echo "set-up: installing Chromium"; \
	    $(if $(filter 0,$(shell id -u)),,sudo) sh -c 'apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium nodejs' >/dev/null; } || \
	  echo "no Chromium: the browser tests will be skipped, and the book cannot be printed; install it"

exercises: $(READY) ## the students' notebooks, with gaps: _build/exercises/
	@$(PRESS) students $(call q,$(OUT)/exercises)

class: $(READY) ## after `make book`: the lesson plans' pages for phones, folder and zip, QR code: ADDRESS=http://192.168.1.7:8000
	@$(PRESS) class --html $(call q,$(OUT)/html) --address $(call q,$(ADDRESS))

clean: ## remove the built book
	@$(OURS) clean-book $(call q,$(OUT))

clean-runs: ## remove all results of all runs
	@$(OURS) clean-runs $(call q,$(RUNS))
