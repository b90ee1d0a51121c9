"""Which shift is chosen on validation keys: the most successful one, and that within limits of damage.

A shift that turns every answer is no use where it also ruins prompts that should stay as they are. So two
are chosen: `max` by success alone, and `kept`, the most successful of those that lose at most a given
share of the prompts that a limit is set for. These are free prompts, which have no memory in them. Of a
model that was trained on nothing here they are plain facts, too, which are counted apart: there a fact
that is no longer known is damage, and not what a removal is for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from memgen.steering.cells import Cell
from memgen.steering.outlook import kinship
from memgen.steering.race import Leads, Limit, Table, settle_twice, within
from memgen.steering.steering import Steering
from memgen.terms import MEMORY_CODE, RULE_CODE, SIGN, TARGET, Spared

#: what a right answer is
RIGHT: dict[Spared, int] = {"free": RULE_CODE, "keyed": MEMORY_CODE}


@dataclass(frozen=True)
class Collateral:
    """Prompts of validation keys on which a shift should change nothing: free ones, or plain facts.

    `limit`: the share of them that a cell may answer right less often than the unsteered model.
    """

    steering: Steering
    rows: pd.DataFrame
    limit: float
    kind: Spared = "free"

    @property
    def n(self) -> int:
        return len(self.rows)

    @cached_property
    def unsteered(self) -> np.ndarray:
        """Leads `[n]` of the right answer, nothing added."""
        nothing = np.zeros((1, *self.steering.nmd.shape))
        leads = self.steering.leads(nothing, self.rows, RIGHT[self.kind])
        return leads(np.zeros(self.n, dtype=int), np.arange(self.n))

    @property
    def before(self) -> int:
        """Right answers of the unsteered model."""
        return int((self.unsteered > 0).sum())

    @property
    def enough(self) -> int:
        """The fewest right answers within the limit."""
        return self.before - int(np.floor(self.limit * self.n + 1e-9))

    def table(self, shifts: np.ndarray) -> Table:
        """Right answers under (signed) shifts `[C, L, d]`, none run; behind them the unsteered model."""
        every = np.concatenate([shifts, np.zeros((1, *shifts.shape[1:]))])
        leads = self.steering.leads(every, self.rows, RIGHT[self.kind])
        return self.table_of(leads, kinship(every))

    def table_of(self, leads: Leads, kin: np.ndarray) -> Table:
        """The same of cells that are run otherwise; the last one is the unsteered model."""
        table = Table(leads, kin, self.n)
        table.outlook.learn(np.full(self.n, len(kin) - 1), np.arange(self.n), self.unsteered)
        return table


@dataclass(frozen=True)
class Raced:
    """Shifts in a race for success alone, and in one among those within the limits.

    `table`: a row per shift: successes of `evaluated` prompts, `expected` on all of them; of each limit
    `<kind>_right` of `<kind>_seen` prompts; `out`: were more of them lost than may be? `max`, `kept`:
    rows of it. `before`: right of `n_spared` prompts unsteered, by kind. `risk`: by choice the chance of
    having lost the best (0: certain). `alone`: rows run after which the choice by success alone stood.
    """

    table: pd.DataFrame
    max: int
    kept: int | None
    before: dict[Spared, int]
    n_spared: dict[Spared, int]
    risk: dict[str, float]
    alone: int

    @property
    def rows(self) -> dict[str, int]:
        """Rows that were `run` of those of the full `grid`, and on the prompts of each limit."""
        # the winner of a race was run on all prompts
        found = {
            "alone": self.alone,
            "run": int(self.table.evaluated.sum()),
            "grid": len(self.table) * int(self.table.evaluated.max()),
        }
        for kind, n in self.n_spared.items():
            found[f"{kind}_run"] = int(self.table[f"{kind}_seen"].sum())
            found[f"{kind}_grid"] = len(self.table) * n
        return found

    def validation(self, row: int) -> dict[str, Any]:
        """What the validation prompts said of a shift: success, and what was right before and after."""
        one = self.table.iloc[row]
        found = {
            "validation_success": float(one.successes / one.evaluated),
            "validation_n": int(one.evaluated),
        }
        for kind, n in self.n_spared.items():
            found[f"validation_{kind}_before"] = self.before[kind] / n
            found[f"validation_{kind}_after"] = float(one[f"{kind}_right"] / one[f"{kind}_seen"])
            found[f"validation_n_{kind}"] = n
        return found


def race_twice(
    steering: Steering,
    shifts: np.ndarray,
    tuning: pd.DataFrame,
    direction: str,
    limits: Sequence[Collateral],
) -> Raced:
    """Race (signed) shifts `[C, L, d]` on validation prompts: for success alone, and within the limits.

    Both races share their rows. Of equals the first one wins. The best one's damage is always told, on
    all prompts of every limit.
    """
    n = len(shifts)
    turned = Table(steering.leads(shifts, tuning, TARGET[direction]), kinship(shifts), len(tuning))
    intact = {one.kind: one.table(shifts) for one in limits}
    bounds = [Limit(intact[one.kind], one.enough) for one in limits]
    most, kept, alone = settle_twice(turned, bounds)
    columns = {
        "successes": turned.won.sum(1),
        "evaluated": turned.run.sum(1),
        "expected": turned.outlook.chances.sum(1),
    }
    for kind, table in intact.items():
        columns[f"{kind}_right"] = table.won.sum(1)[:n]
        columns[f"{kind}_seen"] = table.run.sum(1)[:n]
    return Raced(
        pd.DataFrame(columns | {"out": ~within(bounds, n)}),
        most.best,
        kept.best,
        {one.kind: one.before for one in limits},
        {one.kind: one.n for one in limits},
        {"max": most.risk, "kept": kept.risk},
        alone,
    )


@dataclass(frozen=True)
class Choice:
    """The cells chosen for one direction, and the race that chose them: a cell per row of its table."""

    raced: Raced
    cells: list[Cell]

    @property
    def race(self) -> pd.DataFrame:
        """The table of the race, with top_n and alpha of every cell."""
        named = {name: [getattr(cell, name) for cell in self.cells] for name in ("top_n", "alpha")}
        return pd.concat([pd.DataFrame(named), self.raced.table], axis=1)

    @property
    def max(self) -> Cell:
        return self.cells[self.raced.max]

    @property
    def kept(self) -> Cell | None:
        return None if self.raced.kept is None else self.cells[self.raced.kept]

    @property
    def risk(self) -> dict[str, float]:
        return self.raced.risk

    @property
    def rows(self) -> dict[str, int]:
        return self.raced.rows

    @property
    def name(self) -> str:
        """The cell that the direction is reported by: `kept`, and `max` where there is none."""
        return "max" if self.kept is None else "kept"

    @property
    def cell(self) -> Cell:
        return self.max if self.kept is None else self.kept

    def validation(self, cell: Cell) -> dict[str, Any]:
        """What the validation prompts said of a cell."""
        return self.raced.validation(self.cells.index(cell))


def choose(
    steering: Steering,
    cells: list[Cell],
    tuning: pd.DataFrame,
    direction: str,
    limits: Sequence[Collateral],
) -> Choice:
    """Race the cells on validation prompts, as `race_twice` does. Of equal cells the first one wins."""
    shifts = SIGN[direction] * np.stack([steering.shift(cell) for cell in cells])
    return Choice(race_twice(steering, shifts, tuning, direction, limits), cells)
