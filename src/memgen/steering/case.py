"""One direction of steering: the cell that lab 06 chose on validation keys, and test prompts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from memgen.steering.cells import Cell
from memgen.steering.prompts import Prompts
from memgen.steering.steering import Steering, steering_prompts
from memgen.terms import SIGN


@dataclass(frozen=True)
class Case:
    """One direction: the cell that lab 06 chose, and the test prompts that it is tried on."""

    direction: str
    cell: Cell
    rows: pd.DataFrame
    prompts: Prompts

    @property
    def sign(self) -> float:
        return SIGN[self.direction]

    @property
    def keys(self) -> np.ndarray:
        return self.rows.key.to_numpy()

    @property
    def candidates(self) -> np.ndarray:
        """The tokens of both answers, `[P, 2, A]`, as in `Prompts`."""
        return self.prompts.candidates.cpu().numpy()

    @property
    def distinct(self) -> np.ndarray:
        """Which prompts have answers that begin differently, bool `[P]`."""
        return self.candidates[:, 0, 0] != self.candidates[:, 1, 0]

    @property
    def begin_differently(self) -> Prompts | None:
        """The prompts that have a margin; None if there are none."""
        return self.prompts[torch.from_numpy(self.distinct)] if self.distinct.any() else None


def open_case(
    steering: Steering, answered: pd.DataFrame, direction: str, chosen: dict, limit: int
) -> Case:
    """`chosen`: the direction's part of lab 06's result."""
    rows = steering_prompts(answered, "test", direction, limit)
    return Case(direction, Cell(chosen["top_n"], chosen["alpha"]), rows, steering.prompts(rows))
