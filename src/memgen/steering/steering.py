"""Steering: choose a cell on validation keys, score it once on test keys, beside its controls,
ablations and side effects.

The paper's formula, on the `top_n` neurons by |rho|, all layers at once: h <- h + alpha * sign(rho)
* |NMD| towards generalization (`m2g`), and the same with the opposite sign towards memorization
(`g2m`). What a prompt would have answered unsteered is known from the pairs stage, so `m2g` runs on
prompts answered from memory only, `g2m` on those answered by the rule.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from memgen.stats.intervals import wilson
from memgen.steering.cells import Cell, cell_shift
from memgen.steering.engine import run_cells
from memgen.steering.prompts import Prompts, make_prompts
from memgen.steering.race import race
from memgen.tasks import Task
from memgen.tasks.dataset import spread
from memgen.terms import CODE, SIGN, START, TARGET


def steering_prompts(
    answered: pd.DataFrame, split: str, direction: str, limit: int
) -> pd.DataFrame:
    """The conflict prompts of a split that the unsteered model answers with the behaviour to be
    changed.
    """
    chosen = answered[(answered.split == split) & (answered.behavior == START[direction])]
    return spread(
        chosen.sort_values(["key", "group", "rephrasing"], kind="stable").drop_duplicates("prompt"),
        limit,
    )


def as_prompts(tokenizer, rows: pd.DataFrame) -> Prompts:
    return make_prompts(
        tokenizer, list(rows.prompt), list(rows.memory_answer), list(rows.rule_answer)
    )


class Steering:
    """One model with its NMD and rho at one site; runs stacks of shifts on prompts. Shifts are
    `[cells, n_layer, d_model]`.
    """

    def __init__(
        self,
        model,
        tokenizer,
        task: Task,
        site: str,
        nmd: np.ndarray,
        rho: np.ndarray,
        positions: str = "all",
    ):
        self.model, self.tokenizer, self.task = model, tokenizer, task
        self.site, self.nmd, self.rho, self.positions = site, nmd, rho, positions

    def prompts(self, rows: pd.DataFrame) -> Prompts:
        return as_prompts(self.tokenizer, rows).to(self.model.device)

    def choose(self, cells: list[Cell], rows: pd.DataFrame, direction: str):
        """Race the cells on these (validation) prompts; `(chosen cell, table of the race)`."""
        shifts = SIGN[direction] * np.stack([cell_shift(c, self.nmd, self.rho) for c in cells])
        outcome = race(
            self.model,
            self.prompts(rows),
            self._tensor(shifts),
            TARGET[direction],
            site=self.site,
            positions=self.positions,
            **self._decoding(),
        )
        table = pd.DataFrame(
            [(c.top_n, c.alpha) for c in cells], columns=["top_n", "alpha"]
        ).assign(successes=np.asarray(outcome.successes), evaluated=np.asarray(outcome.evaluated))
        return cells[outcome.best], table

    def outcomes(
        self, shifts: np.ndarray, rows: pd.DataFrame, positions: str | None = None
    ) -> np.ndarray:
        """Behaviour codes `[cells, prompts]` under each shift (already signed for its direction)."""
        return np.asarray(
            run_cells(
                self.model,
                self.prompts(rows),
                self._tensor(shifts),
                site=self.site,
                positions=positions or self.positions,
                **self._decoding(),
            )
        )

    def _tensor(self, shifts: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(shifts, dtype=np.float32)).to(
            self.model.device
        )

    def _decoding(self) -> dict:
        return {
            "max_new_tokens": self.task.max_answer_tokens,
            "eos_token_id": self.tokenizer.eos_token_id,
        }


def summary(codes: np.ndarray, direction: str) -> dict:
    """Success, Wilson interval, share of `other` and n of one cell's outcomes (any shape)."""
    codes = np.asarray(codes).ravel()
    wins = int((codes == TARGET[direction]).sum())
    return {
        "success": wins / len(codes) if len(codes) else 0.0,
        "interval": list(wilson(wins, len(codes))),
        "other": float((codes == CODE["other"]).mean()) if len(codes) else 0.0,
        "n": len(codes),
    }


def outcome_rows(kind: str, codes: np.ndarray, rows: pd.DataFrame, direction: str) -> pd.DataFrame:
    """One row an answer, with its key: what an interval over keys is computed from."""
    return pd.DataFrame(
        {
            "direction": direction,
            "kind": kind,
            "key": rows.key.to_numpy(),
            "success": codes == TARGET[direction],
        }
    )
