"""Which cell is chosen on validation keys: the most successful one, and that within a limit of damage.

A shift that turns every answer is no use where it also ruins prompts that have no memory in them.
So two cells are chosen: `max` by success alone, and `kept`, the most successful of those that lose
at most a given share of the free prompts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from memgen.steering.cells import Cell
from memgen.steering.outlook import kinship
from memgen.steering.race import Limit, Rules, Table, settle
from memgen.steering.steering import Steering
from memgen.terms import RULE_CODE, SIGN, TARGET


@dataclass(frozen=True)
class Collateral:
    """Free prompts of validation keys, on which a shift should change nothing.

    `limit`: the share of them that a cell may answer right less often than the unsteered model.
    """

    steering: Steering
    rows: pd.DataFrame
    limit: float

    @property
    def n(self) -> int:
        return len(self.rows)

    @cached_property
    def unsteered(self) -> np.ndarray:
        """Leads `[n]` of the right answer, nothing added."""
        nothing = np.zeros((1, *self.steering.nmd.shape))
        leads = self.steering.leads(nothing, self.rows, RULE_CODE)
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
        table = Table(self.steering.leads(every, self.rows, RULE_CODE), kinship(every), self.n)
        table.outlook.learn(np.full(self.n, len(shifts)), np.arange(self.n), self.unsteered)
        return table


@dataclass(frozen=True)
class Choice:
    """The cells chosen for one direction, and the race that chose them.

    `race`: a row per cell: top_n, alpha, successes of `evaluated` prompts, `expected` on all of them;
    `free_right` of `free_seen` free prompts; `out`: were more of them lost than may be?
    `before`: right of `n_free` unsteered. `risk`: by choice the chance of having lost the best cell
    (0: certain). `alone`: rows after which the choice by success alone stood.
    """

    race: pd.DataFrame
    max: Cell
    kept: Cell | None
    before: int
    n_free: int
    risk: dict[str, float]
    alone: int

    @property
    def rows(self) -> dict[str, int]:
        """Rows that were `run` of those of the full `grid`, and on free prompts."""
        # the winner of a race was run on all prompts
        return {
            "alone": self.alone,
            "run": int(self.race.evaluated.sum()),
            "grid": len(self.race) * int(self.race.evaluated.max()),
            "free_run": int(self.race.free_seen.sum()),
            "free_grid": len(self.race) * self.n_free,
        }

    @property
    def name(self) -> str:
        """The cell that the direction is reported by: `kept`, and `max` where there is none."""
        return "max" if self.kept is None else "kept"

    @property
    def cell(self) -> Cell:
        return self.max if self.kept is None else self.kept

    def validation(self, cell: Cell) -> dict:
        """What the validation prompts said of a cell: success, and free accuracy before and after."""
        one = self.race[(self.race.top_n == cell.top_n) & (self.race.alpha == cell.alpha)].iloc[0]
        return {
            "validation_success": float(one.successes / one.evaluated),
            "validation_n": int(one.evaluated),
            "validation_free_before": self.before / self.n_free,
            "validation_free_after": float(one.free_right / one.free_seen),
            "validation_n_free": self.n_free,
        }


def choose(
    steering: Steering,
    cells: list[Cell],
    tuning: pd.DataFrame,
    direction: str,
    collateral: Collateral,
) -> Choice:
    """Race the cells on validation prompts: for success alone, and among those within the limit.

    Both races share their rows. Of equal cells the first one wins. The best cell's damage is always
    told, on all free prompts.
    """
    shifts, rules = SIGN[direction] * np.stack([steering.shift(cell) for cell in cells]), Rules()
    turned = Table(steering.leads(shifts, tuning, TARGET[direction]), kinship(shifts), len(tuning))
    turned.begin(rules)
    most = settle(turned, rules)
    alone = int(turned.run.sum())
    intact = collateral.table(shifts)
    intact.finish(most.best)
    limit = Limit(intact, collateral.enough)
    kept = settle(turned, rules, limit)
    n = len(cells)
    race = pd.DataFrame(
        {
            "top_n": [cell.top_n for cell in cells],
            "alpha": [cell.alpha for cell in cells],
            "successes": turned.won.sum(1),
            "evaluated": turned.run.sum(1),
            "expected": turned.outlook.chances.sum(1),
            "free_right": intact.won.sum(1)[:n],
            "free_seen": intact.run.sum(1)[:n],
            "out": limit.spared[:n] < 0,
        }
    )
    return Choice(
        race,
        cells[most.best],
        None if kept.best is None else cells[kept.best],
        collateral.before,
        collateral.n,
        {"max": most.risk, "kept": kept.risk},
        alone,
    )
