"""A finished run as the book sees it: its tasks, its seeds, and one `ExecutedLab` per notebook that ran."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from memgen.config.training import TrainingParameters
from memgen.stages import LABS, labs_of
from memgen.store.artifacts import MANIFEST, RESULT
from memgen.store.folders import base_folder
from memgen.store.left_out import reason_in, reason_of
from memgen.store.reader import FinishedStage
from memgen.tasks import TASK_NAMES
from memgen.terms import GIVEN_TRACK, STUDY, WHOLE
from press.errors import BookError
from press.origin import At, traced

SYNTHESIS = "08_synthesis"  # the lab whose claims and main finding the whole book shows
NEEDED = (RESULT, MANIFEST)


@dataclass(frozen=True)
class ExecutedLab:
    """One executed lab: a stage for a task and a seed (`all` for the labs that run once)."""

    stage: str
    task: str
    seed: str
    folder: Path  # the stage's artifacts; the notebook lies beside it
    track: str = "scratch"
    sourced: bool = False  # do the numbers of its result know where they come from?

    def at(self, file: str) -> At:
        """The address of one of its files below the folder of its run, which holds all tracks."""
        track = () if self.track == "scratch" else (self.track,)
        return At("/".join((*track, *self.folder.parts[-3:], file)))

    @property
    def notebook(self) -> Path:
        return self.folder.with_suffix(".ipynb")

    @property
    def title(self) -> str:
        return LABS[self.stage].title

    @property
    def name(self) -> str:
        """The page's file name without suffix, unique within its stage."""
        name = self.task if self.seed == WHOLE else f"{self.task}-seed{self.seed}"
        return name if self.track == "scratch" else f"{self.track}-{name}"

    @property
    def page(self) -> str:
        return f"labs/{self.stage}/{self.name}"

    @property
    def label(self) -> str:
        track = "" if self.track == "scratch" else f"track {self.track}, "
        if self.task == STUDY:
            return f"{track}all tasks"
        return track + (self.task if self.seed == WHOLE else f"{self.task}, seed {self.seed}")

    @cached_property
    def kept(self) -> FinishedStage:
        """What the lab left: its tables and arrays."""
        return FinishedStage(self.folder)

    @cached_property
    def result(self) -> dict:
        found = self.kept.result
        return traced(found, self.at(RESULT)) if self.sourced else found

    @property
    def manifest(self) -> dict:
        return self.kept.manifest

    def need(self, path: Path) -> Path:
        """A file of this lab, which has to be there."""
        if path.is_file():
            return path
        raise BookError(
            f"{path} is missing: lab {self.stage} ({self.label}) has not finished. `make book` runs it"
        )


@dataclass(frozen=True)
class Missed:
    """A run that the study went on without: a lab of it was left out, and `why`."""

    task: str
    seed: int
    why: str
    labs: list[ExecutedLab]  # those that were run


class Run:
    """One track of `data/runs/<preset>`: tasks, seeds and labs, all whole and executed.

    `others`: the further tracks of the same study, each a `Run` of its own. `missed`: the runs of this
    track that are in none of its tasks and seeds, since a lab of them was left out.
    """

    def __init__(
        self,
        root: Path,
        tasks: list[str] | None = None,
        seeds: list[int] | None = None,
        tracks: list[str] | tuple[str, ...] = ("scratch",),
    ):
        home, self.track = Path(root), tracks[0]
        self.root, self.preset = home if self.track == "scratch" else home / self.track, home.name
        self.others = [Run(home, tasks, seeds, [track]) for track in tracks[1:]]
        found = {p.parent.parent.name for p in self.root.glob("*/seed*/*") if p.stem in LABS}
        for task in set(tasks or []) - found:
            raise BookError(
                f"{self.root / task} is missing: task {task!r} has not been run. `make book` runs it"
            )
        known = [t for t in TASK_NAMES if t in found] + sorted(found - set(TASK_NAMES))
        asked = [t for t in known if tasks is None or t in tasks]
        if not asked:
            raise BookError(
                f"{self.root} holds no executed labs: run `make book`, which executes them and builds"
                " the book"
            )
        every = {task: self._seeds(task, seeds) for task in asked}
        self._asked = {task: seeds or every[task] for task in asked}  # in the order of the study
        self.missed = [
            self._missed(task, seed, why)
            for task in asked
            for seed in every[task]
            if (why := reason_in(self.root / task / f"seed{seed}"))
        ]
        out = {(one.task, one.seed) for one in self.missed}
        self.seeds = {t: [s for s in every[t] if (t, s) not in out] for t in asked}
        self.tasks = [task for task in asked if self.seeds[task]]
        if not self.tasks and self.track != GIVEN_TRACK:
            raise BookError(
                f"{self.root} holds no run that shows both behaviours, and so no book: {self.missed[0].why}"
            )
        spans = {
            "run": [(task, f"seed{seed}") for task in self.tasks for seed in self.seeds[task]],
            "task": [(task, WHOLE) for task in self.tasks],
            "study": [(STUDY, WHOLE)] if self.tasks else [],
        }
        self.labs = [
            ExecutedLab(
                stage, task, span.removeprefix("seed"), self.root / task / span / stage, self.track
            )
            for level, where in spans.items()
            for stage in labs_of(level, self.track)
            for task, span in where
            if level != "run" or self._runs(stage, task, span)
        ]
        for lab in self.pages:
            for path in (lab.notebook, *(lab.folder / name for name in NEEDED)):
                lab.need(path)

    @property
    def n_runs(self) -> int:
        """Runs of this track, those that it went on without among them."""
        return sum(map(len, self.seeds.values())) + len(self.missed)

    @property
    def pages(self) -> list[ExecutedLab]:
        """The labs that have a page: of complete runs, and what was run of the others."""
        return self.labs + [lab for one in self.missed for lab in one.labs]

    @property
    def all_pages(self) -> list[ExecutedLab]:
        """The labs that have a page, of all tracks."""
        return [lab for one in self.every for lab in one.pages]

    def _runs(self, stage: str, task: str, span: str) -> bool:
        """Does a study run this lab for this seed?"""
        return span in [f"seed{seed}" for seed in LABS[stage].of_seeds(self._asked[task])]

    def _missed(self, task: str, seed: int, why: str) -> Missed:
        folder = self.root / task / f"seed{seed}"
        labs = [
            ExecutedLab(stage, task, str(seed), folder / stage, self.track)
            for stage in labs_of("run", self.track)
            if self._runs(stage, task, folder.name)
        ]
        return Missed(task, seed, why, [lab for lab in labs if not reason_of(lab.folder)])

    def _seeds(self, task: str, wanted: list[int] | None) -> list[int]:
        found = sorted(
            int(p.name[4:]) for p in (self.root / task).glob("seed*") if p.name[4:].isdigit()
        )
        for seed in set(wanted or []) - set(found):
            raise BookError(
                f"{self.root / task / f'seed{seed}'} is missing: run `make book` with this seed first"
            )
        return [seed for seed in found if wanted is None or seed in wanted]

    def of(self, stage: str, task: str | None = None) -> list[ExecutedLab]:
        """The labs of a stage, in the order of tasks and seeds."""
        return [lab for lab in self.labs if lab.stage == stage and task in (None, lab.task)]

    def tasks_of(self, stage: str) -> list[str]:
        """The tasks that have this lab: some are run for the first seed alone, which may be missed."""
        return list(dict.fromkeys(lab.task for lab in self.of(stage)))

    @property
    def every(self) -> list[Run]:
        """This track and the others."""
        return [self, *self.others]

    def sourced(self) -> Run:
        """The same run, and every number of its results knows where it comes from."""
        one = copy(self)
        one.labs = [replace(lab, sourced=True) for lab in self.labs]
        one.others = [other.sourced() for other in self.others]
        return one

    def base(self) -> dict:
        """The shared base's `result.json`, timings, architecture; {} from scratch or elsewhere."""
        parameters = self.of("02_training")[0].manifest["parameters"]
        if self.track == "scratch" or parameters["base_model"]:
            return {}
        folder = base_folder(
            self.root.parent.parent,
            self.preset,
            self.tasks[0],
            parameters["base_seed"],
            self.track,
            parameters["architecture"],
        )
        return FinishedStage(folder).result | {"architecture": parameters["architecture"]}

    @property
    def is_finding(self) -> bool:
        """False if a model need not pass the study's own gate: such a run shows nothing."""
        own = {
            name: field.default
            for name, field in TrainingParameters.model_fields.items()
            if name.startswith("gate_")
        }
        # on track given nothing was trained that could have been chosen by a gate
        trained = [run for run in self.every if run.track != GIVEN_TRACK]
        for lab in [lab for run in trained for lab in run.of("02_training")]:
            spent = lab.manifest.get("parameters", {})
            gate = {name: spent.get(name, value) for name, value in own.items()}
            if gate.pop("gate_other") > own["gate_other"]:
                return False
            if any(gate[name] < own[name] for name in gate):
                return False
        return True
