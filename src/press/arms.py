"""The committed arms of training for chapter 2: rows, figure, and how they were made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from memgen.figures.arms import by_arm
from memgen.pipeline.arms import ARMS
from press.committed import Committed, staged
from press.sentences import Share

MEANS = ("memory_rate", "rule_rate", "other_rate", "free_accuracy", "keyed_accuracy")


@dataclass(frozen=True)
class Arms(Committed):
    """`rows`: by task and arm, means over the seeds; empty before the arms have run."""

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
    return staged(Arms, "arms", (root, source), lambda table: by_arm(table, ARMS), _rows)


def _rows(table: pd.DataFrame) -> list[dict]:
    """By task, and within a task by arm, both in the order of the table."""
    rows = [
        {"task": task, "arm": arm, "name": ARMS[arm], **_row(runs)}
        for (task, arm), runs in table.groupby(["task", "arm"], sort=False)
    ]
    tasks = list(dict.fromkeys(table.task))
    return sorted(rows, key=lambda row: tasks.index(row["task"]))


def _row(runs: pd.DataFrame) -> dict:
    means = {name: float(runs[name].mean()) for name in MEANS}
    return means | {"passed": Share(int(runs.passed.sum()), len(runs))}
