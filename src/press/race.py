"""The race beside the full grid for the page Performance: the last committed outcome."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from memgen.store.files import read_json


@dataclass(frozen=True)
class Race:
    """The race beside the full grid, as `tests/benchmarks/bench_race.py` found: a row a direction."""

    rows: pd.DataFrame
    about: dict[str, Any]

    @classmethod
    def of(cls, folder: Path) -> Race | None:
        """What is in a folder; None before it was measured."""
        if not (folder / "race.csv").is_file():
            return None
        return cls(pd.read_csv(folder / "race.csv"), read_json(folder / "race.json"))

    @property
    def tasks(self) -> list[dict[str, Any]]:
        """By task: choices, how many are those of the full grid, folds of its rows, chance, seconds."""
        found = []
        for task, part in self.rows.groupby("task", sort=False):
            total = part.select_dtypes("number").sum()
            every = total["run"] + total["free_run"]
            found.append(
                {
                    "task": task,
                    "n": len(part),
                    "same": int(part.same.sum()),
                    "same_limited": int(part.same_limited.sum()),
                    "alone": total["grid"] / total["alone"],
                    "both": (total["grid"] + total["free_grid"]) / every,
                    "chance": part[["chance", "chance_limited"]].to_numpy().max(),
                    "race": total["race_seconds"],
                    "full": total["full_seconds"],
                }
            )
        return found

    @property
    def n(self) -> int:
        return len(self.rows)

    @property
    def n_same(self) -> int:
        return int(self.rows.same.sum())

    @property
    def n_same_limited(self) -> int:
        return int(self.rows.same_limited.sum())
