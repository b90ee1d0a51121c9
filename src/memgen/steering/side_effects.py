"""What steering costs where nothing should change."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch

from memgen.steering.plain_text import damage
from memgen.steering.steering import Steering
from memgen.terms import MEMORY_CODE, RULE_CODE

SCORES = 2**24  # numbers that are worked on at once


@dataclass(frozen=True)
class Elsewhere:
    """Free and keyed prompts, on which steering should change nothing, and what it changes there."""

    steering: Steering
    free: pd.DataFrame
    keyed: pd.DataFrame
    #: what the unsteered model does, by name, once it was asked
    _before: dict[str, tuple[float, torch.Tensor]] = field(default_factory=dict, repr=False)
    _page: dict[str, float] = field(default_factory=dict, repr=False)

    @property
    def _right(self) -> list[tuple[str, pd.DataFrame, int]]:
        """`(name, prompts, the code of a right answer)`."""
        return [("free", self.free, RULE_CODE), ("keyed", self.keyed, MEMORY_CODE)]

    def side_effects(self, delta: np.ndarray, conflict: pd.DataFrame) -> dict:
        """The cost of a (signed) shift `[L, d]`: accuracies before and after, KL(unsteered || it).

        The KL is that of the first answer token in nats, mean over the prompts: `kl_free` and
        `kl_keyed`, where nothing should change, and `kl_conflict`, which success itself makes large.
        Of a pretrained model the perplexity of a page of prose, too (`plain_text.damage`).
        """
        found: dict[str, Any] = {"n_free": len(self.free), "n_keyed": len(self.keyed)}
        nothing, kl = np.zeros_like(delta), {}
        for name, rows, code in self._right:
            if name not in self._before:
                self._before[name] = self._read(nothing, rows, code)
            (right, log), (right_after, log_after) = (
                self._before[name],
                self._read(delta, rows, code),
            )
            found[f"{name}_accuracy_before"] = right
            found[f"{name}_accuracy_after"] = right_after
            kl[name] = divergence(log, log_after)
        asked, asked_after = (self._read(one, conflict)[1] for one in (nothing, delta))
        kl["conflict"] = divergence(asked, asked_after)
        found |= {f"kl_{name}": value for name, value in kl.items()}
        page = damage(self.steering, delta, self._page.get("perplexity_before"))
        self._page.update(page)
        return found | page

    def _read(
        self, delta: np.ndarray, rows: pd.DataFrame, code: int = RULE_CODE
    ) -> tuple[float, torch.Tensor]:
        """Share of these answers, and the first tokens' log-probabilities `[n, vocabulary]`: one pass."""
        sweep = self.steering.sweep(delta[None], rows)
        n = len(rows)
        fits, log = sweep.read(torch.zeros(n, dtype=torch.long), torch.arange(n))
        return float(fits[:, code].double().mean()), log


def divergence(log: torch.Tensor, other: torch.Tensor) -> float:
    """Mean KL(one || other) in nats, of log-probabilities `[n, vocabulary]`."""
    some = max(1, SCORES // log.shape[1])  # rows at a time, so that no copy of a large one is made
    parts = zip(log.split(some), other.split(some))
    return float(torch.cat([(one.exp() * (one - two)).sum(-1) for one, two in parts]).mean())
