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
import torch

from memgen.steering.cells import Cell
from memgen.steering.race import Succeeds, race_rows
from memgen.steering.steering import Steering
from memgen.terms import RULE_CODE, SIGN, TARGET

BLOCK = 64  # free prompts between two looks at a cell that may have lost too many


class Known:
    """Which cells succeed on which prompts, each run once: several races ask the same again."""

    def __init__(self, succeeds: Succeeds, n_cells: int, n_prompts: int):
        self.succeeds = succeeds
        self.won, self.seen = torch.zeros(2, n_cells, n_prompts, dtype=torch.bool)

    def __call__(self, cells: list[int], prompts: torch.Tensor) -> torch.Tensor:
        """Bool `[cells, prompts]`."""
        index = (torch.tensor(cells)[:, None], prompts)
        new = ~self.seen[index]
        if new.any():
            some = [cell for cell, any_new in zip(cells, new.any(1).tolist()) if any_new]
            where = prompts[new.any(0)]
            at = (torch.tensor(some)[:, None], where)
            self.won[at], self.seen[at] = self.succeeds(some, where), True
        return self.won[index]


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
    def before(self) -> int:
        """Right answers of the unsteered model."""
        return self.right(0 * self.steering.nmd)[0]

    @property
    def enough(self) -> int:
        """The fewest right answers within the limit."""
        return self.before - int(np.floor(self.limit * self.n + 1e-9))

    def right(self, shift: np.ndarray, at_least: int = 0) -> tuple[int, int]:
        """Right answers under a (signed) shift `[L, d]`, and the prompts it was run on.

        All of them, unless it can no longer reach `at_least`.
        """
        succeeds = self.steering.succeeds(shift[None], self.rows, RULE_CODE)
        right = seen = 0
        for part in torch.arange(self.n).split(BLOCK if at_least else max(1, self.n)):
            right, seen = right + int(succeeds([0], part).sum()), seen + len(part)
            if right + self.n - seen < at_least:
                break
        return right, seen


@dataclass(frozen=True)
class Choice:
    """The cells chosen for one direction, and the race that chose them.

    `race`: a row per cell: top_n, alpha, successes of `evaluated` prompts; `free_right` of
    `free_seen` free prompts, 0 of 0 where nobody looked. `before`: right of `n_free` unsteered.
    """

    race: pd.DataFrame
    max: Cell
    kept: Cell | None
    before: int
    n_free: int

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
    """Race the cells on validation prompts, then look at the damage of the best one after the other.

    The first within the limit is `kept`: no better one is. A cell is run on free prompts until it
    has lost too many, the best one on all of them. Of equal cells the first one wins.
    """
    shifts = SIGN[direction] * np.stack([steering.shift(cell) for cell in cells])
    known = Known(steering.succeeds(shifts, tuning, TARGET[direction]), len(cells), len(tuning))
    free = np.zeros((len(cells), 2), dtype=int)  # right, seen
    left, order = list(range(len(cells))), []
    kept = None
    while left and kept is None:
        best = left[race_rows(_among(known, left), len(left), len(tuning)).best]
        at_least = collateral.enough if order else 0  # the damage of the best is always told
        free[best] = collateral.right(shifts[best], at_least)
        order.append(best)
        left.remove(best)
        right, seen = free[best]
        if seen == collateral.n and right >= collateral.enough:
            kept = cells[best]
    race = pd.DataFrame(
        {
            "top_n": [cell.top_n for cell in cells],
            "alpha": [cell.alpha for cell in cells],
            "successes": known.won.sum(1).tolist(),
            "evaluated": known.seen.sum(1).tolist(),
            "free_right": free[:, 0],
            "free_seen": free[:, 1],
        }
    )
    return Choice(race, cells[order[0]], kept, collateral.before, collateral.n)


def _among(known: Known, left: list[int]) -> Succeeds:
    """The known outcomes of the cells that are left, which a race numbers from 0."""
    return lambda cells, prompts: known([left[cell] for cell in cells], prompts)
