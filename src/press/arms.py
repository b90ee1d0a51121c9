"""The committed arms of training for chapter 2: rows, figure, and how they were made."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from memgen.figures.arms import by_arm
from memgen.pipeline.arms import ARMS
from memgen.store.files import read_json
from press.sentences import Share

MEANS = ("memory_rate", "rule_rate", "other_rate", "free_accuracy", "keyed_accuracy")


@dataclass(frozen=True)
class Arms:
    """`rows`: by task and arm, means over the seeds that ended; empty before the arms have run."""

    rows: list[dict] = field(default_factory=list)
    alt: str = ""
    caption: str = ""
    command: str = ""
    machine: str = ""

    def passed(self, task: str, arm: str) -> Share:
        """How many seeds of a task pass the gate of the study in an arm."""
        found = [row for row in self.rows if (row["task"], row["arm"]) == (task, arm)]
        return found[0]["passed"] if found else Share(0, 0)

    @property
    def seeds(self) -> int:
        """The most seeds of any row."""
        return max((row["passed"].n for row in self.rows), default=0)


def arms(root: Path, source: Path) -> Arms:
    """The arms in `data/reference/arms`, their figure staged in `source`."""
    path = root / "data" / "reference" / "arms" / "results.csv"
    if not path.is_file():
        return Arms()
    table, about = pd.read_csv(path), read_json(path.with_name("about.json"))
    drawing = by_arm(table, ARMS)
    drawing.figure.savefig(source / "figures" / "arms.png")
    rows = [
        {"task": task, "arm": arm, "name": ARMS[arm], **_row(runs)}
        for (task, arm), runs in table.groupby(["task", "arm"], sort=False)
    ]
    rows.sort(key=lambda row: list(dict.fromkeys(table.task)).index(row["task"]))
    machine = f"{about['machine']['cores']} cores of {about['machine']['processor']}"
    return Arms(rows, drawing.alt, drawing.caption, about["command"], machine)


def _row(runs: pd.DataFrame) -> dict:
    ended = runs[runs.ended]
    means = {name: float(ended[name].mean()) if len(ended) else None for name in MEANS}
    return means | {"passed": Share(int(runs.passed.sum()), len(runs))}
