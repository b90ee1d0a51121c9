"""The whole study as one command: check the parameters, run the labs that need it, build the book.

    python -m memgen.study book --preset laptop --tasks inference --seeds 0 1 --set n_embd=64
    python -m memgen.study labs ...    the labs without the book

Snakemake decides what has to run; this module tells it what there is, shows how far it is, and
repeats a failing lab's own message instead of a traceback. `lab` and `base` run one job of the plan
in the environment variable MEMGEN_PLAN; Snakemake calls them.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args, get_origin

from memgen.config.base import ROOT, SEEDS
from memgen.errors import ParameterError
from memgen.models.load import find_base
from memgen.pipeline import notebook, warm
from memgen.presets import preset_path, split_overrides, stage_parameters
from memgen.stages import BASE, BASE_CODE, LABS, PARAMETER_CLASSES, labs_of
from memgen.store.fingerprint import source_files
from memgen.store.folders import base_name, run_folder
from memgen.tasks import TASK_NAMES, TASKS
from memgen.terms import TRACKS

#: parameters that say which run a lab belongs to: the plan gives them
RESERVED = {"preset", "runs", "task", "tasks", "seed", "seeds", "retrain", "track"}
#: `python -m`, as a fork of the server that `warm_server` starts, where there is one
FORK = (sys.executable, "-I", "-S", str(Path(warm.__file__)))


def _fixed(stage: str, name: str) -> bool:
    """Does this stage know only one value of the parameter (the confounds read the residual stream,
    whatever `site` the others use)?
    """
    annotation = PARAMETER_CLASSES[stage].model_fields[name].annotation
    return get_origin(annotation) is Literal and len(get_args(annotation)) == 1


@dataclass(frozen=True)
class Job:
    """One lab of one run: `run` is 'seed0', 'seed0-retrain1' or 'all'. A base that several tracks
    share counts as the first's.
    """

    stage: str
    task: str
    run: str
    track: str = "scratch"

    @property
    def seed(self) -> int | None:
        return None if self.run == "all" else int(self.run.removeprefix("seed").split("-")[0])

    @property
    def retrain(self) -> int:
        return int(self.run.split("-retrain")[1]) if "-retrain" in self.run else 0


@dataclass
class Plan:
    """Which labs the study consists of, and what each needs. Built from the command line; handed to
    Snakemake as JSON.
    """

    preset: str = "laptop"
    tasks: list[str] = field(default_factory=lambda: list(TASK_NAMES))
    seeds: list[int] = field(default_factory=lambda: list(SEEDS))
    runs: str = "data/runs"
    settings: dict = field(default_factory=dict)
    tracks: list[str] = field(default_factory=lambda: ["scratch"])
    stages: list[str] = field(default_factory=lambda: [BASE, *LABS])  # those that are run

    def __post_init__(self):
        """Validate everything that any lab will be given, before anything runs."""

        for task in self.tasks:
            if task not in TASKS:
                raise ParameterError(f"task={task!r} is unknown; choose one of {', '.join(TASKS)}")
        for track in self.tracks:
            if track not in TRACKS:
                raise ParameterError(
                    f"track={track!r} is unknown; choose one of {', '.join(TRACKS)}"
                )
        for name in ("tasks", "seeds", "tracks"):
            named = getattr(self, name)
            if not named:
                raise ParameterError(f"{name} must name at least one")
            if len(set(named)) < len(named):
                raise ParameterError(f"{name} must not repeat")
        if min(self.seeds) < 0:
            raise ParameterError(f"seeds={self.seeds}: a seed is 0 or larger")
        for name in RESERVED & set(self.settings):
            raise ParameterError(
                f"{name!r} cannot be a setting of the whole study; use the options --preset,"
                " --tracks, --tasks, --seeds, --runs"
            )
        preset_path(self.preset)
        split_overrides(self.settings)
        for job in self.jobs():
            if job.stage != "00_base":
                parameters = stage_parameters(job.stage, self.parameters(job))
                if getattr(parameters, "base_model", ""):
                    find_base(parameters.base_model)

    # -- what there is ----------------------------------------------------------------------------
    def jobs(self) -> list[Job]:
        jobs, bases = [], {}
        for track in self.tracks:
            for task in self.tasks:
                for seed in self.seeds:
                    jobs += [
                        Job(stage, task, f"seed{seed}", track) for stage in labs_of("run", track)
                    ]
                    base = self.base(task, seed, track)
                    bases |= {base: None} if base else {}
                jobs += [
                    Job("02_training", task, f"seed{self.seeds[0]}-retrain{r}", track)
                    for r in range(1, self.n_retrains(task, track) + 1)
                ]
                jobs.append(Job("07_transfer", task, "all", track))
            jobs.append(Job("08_synthesis", "study", "all", track))
        return [
            job
            for job in [*sorted(bases, key=lambda j: (j.task, j.run)), *jobs]
            if job.stage in self.stages
        ]

    def base(self, task: str, seed: int, track: str) -> Job | None:
        """The job that trains what this run starts from, if the study trains it."""
        p = self._training(task, track)
        if p.base_model or not p.base_steps:
            return None
        return Job(
            "00_base",
            base_name(task, track, p.architecture),
            f"seed{seed if track == 'scratch' else p.base_seed}",
        )

    def _variant(self, base: Job) -> tuple[str, str]:
        """The first task, and the track, of the study that start from this base; all give the same
        one.
        """
        return next(
            (task, track)
            for track in self.tracks
            for task in self.tasks
            for seed in self.seeds
            if self.base(task, seed, track) == base
        )

    def _settings(self, stage: str) -> dict:
        """The settings that this stage takes and lets vary."""
        return {
            k: v for k, v in split_overrides(self.settings)[stage].items() if not _fixed(stage, k)
        }

    def _of(self, stage: str, task: str, track: str):
        """The stage's parameters that do not depend on the seed."""
        key = (stage, task, track)
        if key not in self._known:
            self._known[key] = stage_parameters(
                stage,
                {"preset": self.preset, "task": task, "track": track, **self._settings(stage)},
            )
        return self._known[key]

    @cached_property
    def _known(self) -> dict:
        return {}

    def _training(self, task: str, track: str):
        return self._of("02_training", task, track)

    def n_retrains(self, task: str, track: str = "scratch") -> int:
        """Retrains of the first seed; on a shared base the other seeds are that."""
        return self._of("07_transfer", task, track).n_retrains if track == "scratch" else 0

    def parameters(self, job: Job) -> dict:
        """What is passed to a lab: who it is, and the settings that this stage takes."""
        if job.stage == "00_base":  # the settings of training, without a name of its own
            task, track = self._variant(job)
            return self.parameters(Job("02_training", task, job.run, track))
        given: dict = {"task": job.task, "preset": self.preset, "runs": self.runs}
        given |= {"track": job.track} if job.track != "scratch" else {}
        given |= {"seeds": self.seeds} if job.run == "all" else {"seed": job.seed}
        if job.run == "all":
            given["tasks"] = self.tasks
        if job.retrain:
            given["retrain"] = job.retrain
        return given | self._settings(job.stage)

    def stamp(self, job: Job) -> Path:
        """The small file that says a lab is done: the digest of its outputs. What Snakemake
        compares.
        """
        return (
            run_folder(self.runs, self.preset, job.task, job.run, track=job.track)
            / f"{job.stage}.stamp"
        )

    def notebook(self, job: Job) -> Path:
        return self.stamp(job).with_suffix(".ipynb")

    def needs(self, job: Job) -> list[Path]:
        """Stamps of the labs that must be done before this one."""

        def of(task, run, *stages):
            return [self.stamp(Job(stage, task, run, job.track)) for stage in stages]

        if job.stage == "00_base":
            task, track = self._variant(job)
            return of(task, job.run, "01_dataset_design") if track == "scratch" else []
        if job.stage == "08_synthesis":
            bases = {
                self.base(task, seed, job.track) for task in self.tasks for seed in self.seeds
            } - {None}
            others = [
                other
                for other in self.jobs()
                if other.track == job.track and other.stage not in ("00_base", "08_synthesis")
            ]
            return [self.stamp(other) for other in [*sorted(bases, key=str), *others]]
        if job.stage == "07_transfer":
            found = [
                p
                for task in self.tasks
                for seed in self.seeds
                for p in of(task, f"seed{seed}", "04_differentiation", "06_intervention")
            ]
            return found + [
                p
                for r in range(1, self.n_retrains(job.task, job.track) + 1)
                for p in of(job.task, f"seed{self.seeds[0]}-retrain{r}", "02_training")
            ]
        found = of(
            job.task,
            f"seed{job.seed}" if job.retrain else job.run,
            *(LABS[job.stage].reads[: 1 if job.retrain else None]),
        )
        base = self.base(job.task, job.seed, job.track) if job.stage == "02_training" else None
        return found + ([self.stamp(base)] if base else [])

    def sources(self, job: Job) -> list[Path]:
        """Files whose change makes a lab stale: its notebook, its preset, and the modules behind
        it.
        """

        code = BASE_CODE if job.stage == BASE else LABS[job.stage].code
        # notebook.py itself, but not all that it imports, or much would wake every lab
        files = [
            preset_path(self.preset),
            Path(notebook.__file__),
            *source_files(*code, "store.reader", "presets"),
        ]
        if job.stage != BASE:
            files.append(ROOT / "notebooks" / f"{job.stage}.ipynb")
            files += source_files(f"figures.{LABS[job.stage].short}")
        return files

    def command(self, job: Job) -> list[str]:
        """The command line that runs this job alone."""
        if job.stage == "00_base":
            task, track = self._variant(job)
            head = ["base", "--task", task, "--run", job.run, "--track", track]
        else:
            head = ["lab", job.stage, "--task", job.task, "--run", job.run, "--track", job.track]
        return [*FORK, "memgen.pipeline.cli", *head]

    def to_json(self) -> str:
        return json.dumps({name: getattr(self, name) for name in self.__dataclass_fields__})

    @classmethod
    def from_json(cls, text: str) -> Plan:
        return cls(**json.loads(text))
