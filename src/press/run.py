"""What the pages of the book are made from: a finished run, its numbers in prose, and the lab
pages.

Nothing here knows Sphinx. A prose page is a Jinja2 template; :class:`Numbers` is all it can ask
for. A number that the run does not hold is an error, never a gap in a sentence.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path

from memgen.config.training import TrainingParameters
from memgen.stages import TITLES, labs_of
from memgen.store.files import read_json
from memgen.store.folders import base_folder
from memgen.tasks import TASK_NAMES
from memgen.terms import STUDY, WHOLE
from press.errors import BookError

PER_TASK, PER_STUDY = "07_transfer", "08_synthesis"


@dataclass(frozen=True)
class Lab:
    """One executed lab: a stage for a task and a seed (`all` for the labs that run once)."""

    stage: str
    task: str
    seed: str
    folder: Path  # the stage's artifacts; the notebook lies beside it
    track: str = "scratch"

    @property
    def notebook(self) -> Path:
        return self.folder.with_suffix(".ipynb")

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

    @functools.cached_property
    def result(self) -> dict:
        return self._json("result.json")

    @functools.cached_property
    def manifest(self) -> dict:
        return self._json("manifest.json")

    def _json(self, name: str) -> dict:
        path = self.folder / name
        try:
            return json.loads(path.read_text(encoding="utf8"))
        except FileNotFoundError:
            raise self.missing(path) from None
        except (OSError, ValueError) as error:
            raise BookError(
                f"{path} cannot be read ({error}): delete it and run `make book` again"
            ) from None

    def missing(self, path: Path) -> BookError:
        return BookError(
            f"{path} is missing: lab {self.stage} ({self.label}) has not finished. `make book`"
            " runs it"
        )


class Run:
    """One track of a run folder `data/runs/<preset>`: its tasks, seeds and labs. Every lab must be
    there, whole and executed.

    `others`: the further tracks of the same study, each a `Run` of its own.
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
        found = {p.parent.parent.name for p in self.root.glob("*/seed*/*") if p.stem in TITLES}
        for task in set(tasks or []) - found:
            raise BookError(
                f"{self.root / task} is missing: task {task!r} has not been run. `make book`"
                " runs it"
            )
        known = [t for t in TASK_NAMES if t in found] + sorted(found - set(TASK_NAMES))
        self.tasks = [t for t in known if tasks is None or t in tasks]
        if not self.tasks:
            raise BookError(
                f"{self.root} holds no executed labs: run `make book`, which executes them and"
                " builds the book"
            )
        self.seeds = {task: self._seeds(task, seeds) for task in self.tasks}
        self.labs = [
            Lab(stage, task, str(seed), self.root / task / f"seed{seed}" / stage, self.track)
            for stage in labs_of("run", self.track)
            for task in self.tasks
            for seed in self.seeds[task]
        ]
        self.labs += [
            Lab(PER_TASK, task, WHOLE, self.root / task / WHOLE / PER_TASK, self.track)
            for task in self.tasks
        ]
        self.labs += [
            Lab(PER_STUDY, STUDY, WHOLE, self.root / STUDY / WHOLE / PER_STUDY, self.track)
        ]
        for lab in self.labs:
            for path in (lab.notebook, lab.folder / "result.json", lab.folder / "manifest.json"):
                if not path.is_file():
                    raise lab.missing(path)

    def _seeds(self, task: str, wanted: list[int] | None) -> list[int]:
        found = sorted(
            int(p.name[4:]) for p in (self.root / task).glob("seed*") if p.name[4:].isdigit()
        )
        for seed in set(wanted or []) - set(found):
            raise BookError(
                f"{self.root / task / f'seed{seed}'} is missing: run `make book` with this seed"
                " first"
            )
        return [seed for seed in found if wanted is None or seed in wanted]

    def of(self, stage: str, task: str | None = None) -> list[Lab]:
        """The labs of a stage, in the order of tasks and seeds."""
        return [lab for lab in self.labs if lab.stage == stage and task in (None, lab.task)]

    @property
    def every(self) -> list[Run]:
        """This track and the others."""
        return [self, *self.others]

    def base(self) -> dict:
        """`result.json` and timings of the base that the runs of this track share, with its
        architecture; {} from scratch or for a model from elsewhere.
        """
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
        return read_json(folder / "result.json") | {"architecture": parameters["architecture"]}

    @property
    def is_finding(self) -> bool:
        """False when a model did not have to pass the study's own gate: such a run exercises the
        code and shows nothing.
        """
        own = {
            name: field.default
            for name, field in TrainingParameters.model_fields.items()
            if name.startswith("gate_")
        }
        for lab in [lab for run in self.every for lab in run.of("02_training")]:
            gate = {
                name: lab.manifest.get("parameters", {}).get(name, value)
                for name, value in own.items()
            }
            if gate.pop("gate_other") > own["gate_other"] or any(
                gate[name] < own[name] for name in gate
            ):
                return False
        return True
