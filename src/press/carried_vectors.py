"""Vectors on the models of other tasks, committed for all seeds, as chapter 15 shows them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from memgen.pipeline.rivals import CARRIED, PLACE


@dataclass(frozen=True)
class Carried:
    """Vectors fitted for `source` on the model of `target`, which starts from the same base.

    Success by method, mean over seeds: `home`, on the model of the fit, and `there`.
    """

    source: str
    target: str
    direction: str
    home: dict[str, float]
    there: dict[str, float]


@dataclass(frozen=True)
class CarriedVectors:
    """`table`: a row per seed, source, target, direction and method; empty before it was made."""

    table: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def n_seeds(self) -> int:
        return int(self.table.seed.nunique())

    @property
    def rows(self) -> list[Carried]:
        """Of every two tasks whose models start from one base."""
        if self.table.empty:
            return []
        by = ["source", "target", "direction"]
        means = self.table.groupby([*by, "method"]).success.mean()
        kin = self.table[self.table.shared_base & (self.table.source != self.table.target)]
        return [
            Carried(
                source,
                target,
                direction,
                means[source, source, direction].to_dict(),
                means[source, target, direction].to_dict(),
            )
            for source, target, direction in kin[by].drop_duplicates().itertuples(index=False)
        ]

    def foreign(self, direction: str, method: str) -> list[float]:
        """Success on each target, mean over seeds and the tasks whose models start from other bases."""
        table = self.table[~self.table.shared_base.astype(bool)]
        rows = table[(table.direction == direction) & (table.method == method)]
        found: list[float] = rows.groupby("target", sort=False).success.mean().tolist()
        return found


def carried_vectors(root: Path) -> CarriedVectors:
    """What lies in `data/reference/rivals` of the repository."""
    path = root / PLACE / CARRIED
    return CarriedVectors(pd.read_csv(path)) if path.is_file() else CarriedVectors()
