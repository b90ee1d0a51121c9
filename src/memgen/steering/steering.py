"""Steering one model: shifts in, behaviours out, on the prompts that a direction starts from.

h <- h + alpha * sign(rho) * |NMD| on the `top_n` neurons by |rho|, all layers at once, drives
towards generalization (`m2g`), the opposite sign towards memorization (`g2m`). Unsteered answers
are known from lab 03: `m2g` runs on prompts answered from memory only, `g2m` on those answered by
the rule.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from memgen.models.endings import ends_of
from memgen.models.load import load_trained
from memgen.models.room import fitting
from memgen.neurons.nmd import NeuronMaps
from memgen.stats.intervals import wilson
from memgen.steering.cells import Cell, cell_shift
from memgen.steering.engine import Decoding, Sweep
from memgen.steering.kept import Kept, Tables
from memgen.steering.outlook import kinship
from memgen.steering.prompts import Prompts, make_prompts
from memgen.steering.race import Leads, RaceResult, contest, race_rows
from memgen.steering.unsteered import ROWS
from memgen.store.reader import FinishedRun
from memgen.tasks import GivenTask, Task
from memgen.tasks.dataset import spread
from memgen.terms import CODE, START, TARGET, Positions, Site


def steering_prompts(
    answered: pd.DataFrame, split: str, direction: str, limit: int
) -> pd.DataFrame:
    """The conflict prompts of a split that the unsteered model answers with the behaviour to be changed."""
    chosen = answered[(answered.split == split) & (answered.behavior == START[direction])]
    ordered = chosen.sort_values(["key", "group", "rephrasing"], kind="stable")
    return spread(ordered.drop_duplicates("prompt"), limit)


class Steering:
    """One model with its NMD and rho at one site; runs stacks of shifts `[cells, n_layer, d_model]`."""

    def __init__(
        self, model, tokenizer, task: Task, maps: NeuronMaps, positions: Positions = "all"
    ):
        self.model, self.tokenizer, self.task = model, tokenizer, task
        self.maps, self.positions = maps, positions
        self.kept = Kept() if isinstance(task, GivenTask) else None
        self.tables: Tables | None = None

    @classmethod
    def of(
        cls, run: FinishedRun, site: Site | None = None, positions: Positions | None = None
    ) -> Steering:
        """The run's model with the maps of lab 04; `site`, `positions`: by default those of lab 06."""
        site = site or run["06_intervention"].result["site"]
        positions = positions or run["06_intervention"].result["positions"]
        model, tokenizer = load_trained(run["02_training"])
        maps = NeuronMaps.of(run["04_differentiation"].arrays("arrays"), site)
        return cls(model, tokenizer, run.task(tokenizer), maps, positions)

    def at(self, maps: NeuronMaps) -> Steering:
        """The same model and positions with other maps, mostly those of another site."""
        found = Steering(self.model, self.tokenizer, self.task, maps, self.positions)
        found.kept, found.tables = self.kept, self.tables
        return found

    @property
    def again(self) -> Steering:
        """The same for tables that are asked under many shifts: the passes over them are kept."""
        found = self.at(self.maps)
        found.tables = (
            Tables() if self.kept is None else None
        )  # prompts that are kept serve as well
        return found

    @property
    def once(self) -> Steering:
        """The same for prompts that are asked once: their passes push out none that are kept."""
        found = self.at(self.maps)
        found.kept, found.tables = self.kept and Kept(0), None
        return found

    @property
    def marks(self) -> tuple[int, torch.Tensor | None]:
        """The end mark, and what ends an answer beside it (`models.endings`)."""
        return self.tokenizer.eos_token_id, ends_of(self.tokenizer, self.task)

    @property
    def site(self) -> Site:
        return self.maps.site

    @property
    def nmd(self) -> np.ndarray:
        return self.maps.nmd

    @property
    def rho(self) -> np.ndarray:
        return self.maps.rho

    def shift(self, cell: Cell) -> np.ndarray:
        """The cell's shift `[n_layer, d_model]`, towards generalization."""
        return cell_shift(cell, self.nmd, self.rho)

    def prompts(self, rows: pd.DataFrame) -> Prompts:
        """Prompts of a table with their two answers as tokens, on the model's device."""
        texts = tuple(rows.prompt), tuple(rows.memory_answer), tuple(rows.rule_answer)

        def made() -> Prompts:
            return make_prompts(self.tokenizer, *map(list, texts)).to(self.model.device)

        return made() if self.tables is None else self.tables.tokens(texts, made)

    def sweep(
        self, shifts: np.ndarray, rows: pd.DataFrame, positions: Positions | None = None
    ) -> Sweep:
        """Shifts (already signed) on these prompts, to be run row by row."""
        prompts = self.prompts(rows)
        decoding = self._decoding(positions or self.positions, prompts)
        return Sweep.of(self.model, prompts, self.tensor(shifts), decoding)

    def leads(
        self,
        shifts: np.ndarray,
        rows: pd.DataFrame,
        target_code: int,
        positions: Positions | None = None,
    ) -> Leads:
        """How far ahead this answer is under a shift (already signed), by cell and prompt."""
        prompts, deltas = self.prompts(rows), self.tensor(shifts)
        decoding = self._decoding(positions or self.positions, prompts)
        return contest(self.model, prompts, deltas, target_code, decoding)

    def race(self, shifts: np.ndarray, rows: pd.DataFrame, direction: str) -> RaceResult:
        """The best of these shifts (already signed) on these prompts, and how far each was run."""
        return race_rows(self.leads(shifts, rows, TARGET[direction]), kinship(shifts), len(rows))

    def outcomes(
        self, shifts: np.ndarray, rows: pd.DataFrame, positions: Positions | None = None
    ) -> np.ndarray:
        """Behaviour codes `[cells, prompts]` under each shift (already signed for its direction)."""
        every, n = torch.arange(len(shifts) * len(rows)), len(rows)
        codes = self.sweep(shifts, rows, positions).codes(every // n, every % n)
        return np.asarray(codes.reshape(-1, n))

    def tensor(self, shifts: np.ndarray) -> torch.Tensor:
        """Shifts as float32, where the model is."""
        values = np.ascontiguousarray(shifts, dtype=np.float32)
        return torch.from_numpy(values).to(self.model.device)

    def _decoding(self, positions: Positions, prompts: Prompts) -> Decoding:
        rows = fitting(self.model, prompts.input_ids.shape[1], ROWS)
        longest = self.task.max_answer_tokens
        return Decoding(self.site, positions, longest, *self.marks, rows, self.kept, self.tables)


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


def outcome_rows(
    kind: str, codes: np.ndarray, rows: pd.DataFrame, direction: str, draw: int = 0
) -> pd.DataFrame:
    """One row per answer, with its key and draw: what an interval over both is computed from."""
    return pd.DataFrame(
        {
            "direction": direction,
            "kind": kind,
            "draw": draw,
            "key": rows.key.to_numpy(),
            "success": codes == TARGET[direction],
            "other": codes == CODE["other"],
        }
    )
