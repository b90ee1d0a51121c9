"""One direction put to the test: the steered model, the cell that is tried, and the prompts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
import torch

from memgen.steering.cells import Cell
from memgen.steering.steering import Steering, summary
from memgen.terms import CODE, SIGN, START, TARGET, Positions


@dataclass(frozen=True)
class Trial:
    """A cell in one direction on the rows `[prompts]` that start from the behaviour to be changed."""

    steering: Steering
    direction: str
    cell: Cell
    rows: pd.DataFrame

    @cached_property
    def shift(self) -> np.ndarray:
        """The cell's shift `[n_layer, d_model]`, towards generalization."""
        return self.steering.shift(self.cell)

    def on(self, rows: pd.DataFrame) -> Trial:
        """The same cell on other prompts."""
        return replace(self, rows=rows)

    def signed(self, shifts: np.ndarray) -> np.ndarray:
        """Shifts towards generalization, turned to the trial's direction."""
        return SIGN[self.direction] * shifts

    def run(
        self,
        shifts: list[np.ndarray],
        steering: Steering | None = None,
        positions: Positions | None = None,
    ) -> np.ndarray:
        """Codes `[shifts, prompts]`; shifts towards the rule, turned here. None: the trial's."""
        if not shifts or self.rows.empty:
            return np.empty((len(shifts), 0), dtype=np.int8)
        signed = self.signed(np.stack(shifts))
        return (steering or self.steering).outcomes(signed, self.rows, positions)

    def run_rows(
        self, shifts: list[np.ndarray], which: np.ndarray, prompts: np.ndarray
    ) -> np.ndarray:
        """Codes `[R]`: row r is the prompt `prompts[r]` under the shift `which[r]`, turned here."""
        sweep = self.steering.sweep(self.signed(np.stack(shifts)), self.rows)
        return sweep.codes(torch.from_numpy(which), torch.from_numpy(prompts)).numpy()

    def unchanged(self, codes: np.ndarray) -> bool:
        """Do these answers show the behaviour that the unsteered model shows?"""
        return bool((codes == CODE[START[self.direction]]).all())

    def succeeds(self, codes: np.ndarray) -> np.ndarray:
        """Which answers show the behaviour that is steered to, bool."""
        return codes == TARGET[self.direction]

    def summary(self, codes: np.ndarray) -> dict:
        return summary(codes, self.direction)
