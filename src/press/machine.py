"""Where, with what and how long the labs of a run were made, from their manifests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from memgen.stages import LABS
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
