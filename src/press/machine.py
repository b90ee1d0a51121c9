"""Where, with what and how long the labs of a run were made, from their manifests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from memgen.figures.profile import by_phase
from memgen.phases import NOT_RECORDED
from memgen.pipeline.plan import base_of
from memgen.pipeline.profile import by_lab_and_phase, evaluation_share, profile_of
from memgen.stages import LABS, TRAINING
from memgen.store.reader import FinishedStage
from press.run import ExecutedLab, Run


class Spent(NamedTuple):
    """Seconds of processors (`total`, `mean`) and of the clock (`longest`), peak memory in bytes."""

    runs: int
    total: float
    mean: float
    longest: float
    peak: float


def spent(labs: list[ExecutedLab]) -> Spent:
    """What these labs took, one or more."""
    worked, waited, memory = (
        [lab.manifest.get(name) or 0 for lab in labs]
        for name in ("cpu_seconds", "wall_seconds", "peak_memory_bytes")
    )
    total = sum(worked)
    return Spent(len(labs), total, total / len(labs), max(waited), max(memory))


def of_seed(run: Run, task: str, seed: int) -> Spent:
    """What all labs of one task and seed took."""
    return spent([lab for lab in run.labs if (lab.task, lab.seed) == (task, str(seed))])


@dataclass(frozen=True)
class Made:
    """All labs of all tracks: the versions and the machine of the last of them, and what they took."""

    run: Run

    @property
    def labs(self) -> list[ExecutedLab]:
        return self.run.all_pages

    @property
    def numerics(self) -> list[str]:
        """By which kernels the labs computed: `native`, `portable`, or both."""
        said = {lab.manifest.get("parameters", {}).get("numerics", "native") for lab in self.labs}
        return sorted(said)

    @property
    def versions(self) -> dict[str, str]:
        return {k: v for lab in self.labs for k, v in lab.manifest.get("versions", {}).items()}

    @property
    def machine(self) -> dict[str, str]:
        return {k: v for lab in self.labs for k, v in lab.manifest.get("machine", {}).items()}

    @property
    def spent(self) -> Spent:
        return spent(self.labs)

    @property
    def by_lab(self) -> dict[str, Spent]:
        """What each stage took on each track, by name (`06_intervention, lora`)."""
        return {
            name if one.track == "scratch" else f"{name}, {one.track}": spent(one.of(name))
            for one in self.run.every
            for name in LABS
            if one.of(name)
        }


@dataclass(frozen=True)
class Profile:
    """What the labs of a run, their retrains and the bases that they start from spent by phase.

    `seconds` `[labs, phases]`; `looks`: share of looks at the model in training, None: not recorded;
    `alt` and `caption` of the figure.
    """

    seconds: pd.DataFrame
    looks: float | None
    alt: str
    caption: str

    @property
    def recorded(self) -> bool:
        """Does any lab say what its seconds went to?"""
        return list(self.seconds.columns) != [NOT_RECORDED]

    @property
    def phases(self) -> list[str]:
        return list(self.seconds.columns)

    @property
    def total(self) -> float:
        return float(self.seconds.to_numpy().sum())

    @property
    def rows(self) -> dict[str, tuple[float, list[float | None]]]:
        """By lab, and for all of them, its seconds, and each phase's share of them (None: none)."""
        every = {name: row.to_list() for name, row in self.seconds.iterrows()}
        every["all"] = self.seconds.sum().to_list()
        return {
            name: (sum(row), [x / sum(row) if x else None for x in row])
            for name, row in every.items()
        }


def profile(run: Run, source: Path) -> Profile:
    """The seconds of a run by phase, their figure staged in `source`."""
    table = profile_of([*(lab.kept for lab in run.all_pages), *_beside(run)])
    drawing = by_phase(table)
    drawing.save(source / "figures" / "profile.png")
    looks = evaluation_share(table)
    return Profile(by_lab_and_phase(table), looks, drawing.alt, drawing.caption)


def _beside(run: Run) -> list[FinishedStage]:
    """What was trained beside the labs that have a page: the bases they start from, each once; retrains."""
    folders = set()
    for one in run.every:
        home = one.root if one.track == "scratch" else one.root.parent
        for lab in one.pages:
            if lab.stage == TRAINING:
                given = lab.kept.parameters.model_copy(update={"runs": str(home.parent.resolve())})
                folders.add(base_of(given))
                seed = lab.folder.parent
                folders |= set(seed.parent.glob(f"{seed.name}-retrain*/{TRAINING}"))
    stages = [FinishedStage(folder) for folder in sorted(filter(None, folders))]
    return [stage for stage in stages if stage.manifested]
