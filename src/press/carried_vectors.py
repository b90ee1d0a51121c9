"""Vectors on the models of other tasks, committed for all seeds, as chapter 15 shows them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from memgen.pipeline.rivals import CARRIED
from press.numbers import cell_of


@dataclass(frozen=True)
class CarriedVectors:
    """`pairs`: source, target and direction of models that start from one, each with a cell per method;
    `home`: the same of every task's own models, and `foreign`: of all others together, by target.
    """

    home: list[dict[str, str]] = field(default_factory=list)
    pairs: list[dict[str, str]] = field(default_factory=list)
    foreign: list[dict[str, str]] = field(default_factory=list)
    n_seeds: int = 0


def carried_vectors(root: Path) -> CarriedVectors:
    """What lies in `data/reference/rivals` of the repository; empty before it was made."""
    path = root / "data" / "reference" / "rivals" / CARRIED
    if not path.is_file():
        return CarriedVectors()
    table = pd.read_csv(path)
    own = table.source == table.target
    return CarriedVectors(
        _rows(table[own], ["source", "target"]),
        _rows(table[~own & table.shared_base], ["source", "target"]),
        _rows(table[~table.shared_base], ["target"]),
        int(table.seed.nunique()),
    )


def _rows(table: pd.DataFrame, by: list[str]) -> list[dict[str, str]]:
    """A row per group and direction, a cell per method: the mean over seeds with its range."""
    found = []
    for names, of in table.groupby([*by, "direction"], sort=False):
        row = dict(zip([*by, "direction"], map(str, names)))
        for method, some in of.groupby("method", sort=False):
            # of several sources one mean per seed
            row[str(method)] = cell_of(some.groupby("seed").success.mean().tolist())
        found.append(row)
    return found
