"""What steering costs where nothing should change."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch

from memgen.steering.plain_text import damage
from memgen.steering.steering import Steering
from memgen.terms import MEMORY_CODE, OTHER_CODE, RULE_CODE

SCORES = 2**24  # numbers that are worked on at once


@dataclass(frozen=True)
class Read:
    """Which answers prompts show, and the first token's log-probabilities: `Sweep.read`.

    `fits`: bool `[n, 2]`; `log`: `[n, vocabulary]`.
    """

    fits: torch.Tensor
    log: torch.Tensor

    def share(self, code: int) -> float:
        """Of the prompts, that show this behaviour."""
        return float(self.fits[:, code].double().mean())

    @property
    def codes(self) -> np.ndarray:
        """Behaviours, int8 `[n]`; of an answer that is both, memory: as `Sweep.codes` has it."""
        memory, rule = self.fits.numpy().T
        return np.select([memory, rule], [MEMORY_CODE, RULE_CODE], OTHER_CODE).astype(np.int8)


@dataclass(frozen=True)
class Elsewhere:
    """Free and keyed prompts, on which steering should change nothing, and what it changes there."""

    steering: Steering
    free: pd.DataFrame
    keyed: pd.DataFrame
    #: what the unsteered model does, by the prompts, once it was asked
    _before: dict[tuple, Read] = field(default_factory=dict, repr=False)
    _page: dict[str, float] = field(default_factory=dict, repr=False)

    @property
    def _right(self) -> list[tuple[str, pd.DataFrame, int]]:
        """`(name, prompts, the code of a right answer)`."""
        return [("free", self.free, RULE_CODE), ("keyed", self.keyed, MEMORY_CODE)]

    def side_effects(self, delta: np.ndarray, conflict: pd.DataFrame) -> tuple[dict, np.ndarray]:
        """The cost of a (signed) shift `[L, d]`: accuracies before and after, KL(unsteered || it).

        The KL is that of the first answer token in nats, mean over the prompts: `kl_free` and
        `kl_keyed`, where nothing should change, and `kl_conflict`, which success itself makes large.
        Of a pretrained model the perplexity of a page of prose, too (`plain_text.damage`).

        With it the behaviour codes `[2, prompts]` of the conflict prompts without and with the shift,
        from the passes that its KL is computed from.
        """
        found: dict[str, Any] = {"n_free": len(self.free), "n_keyed": len(self.keyed)}
        kl = {}
        for name, rows, code in self._right:
            before, after = self._unsteered(rows), self._read(delta, rows)
            found[f"{name}_accuracy_before"] = before.share(code)
            found[f"{name}_accuracy_after"] = after.share(code)
            kl[name] = divergence(before.log, after.log)
        before, after = self._unsteered(conflict), self._read(delta, conflict)
        kl["conflict"] = divergence(before.log, after.log)
        found |= {f"kl_{name}": value for name, value in kl.items()}
        page = damage(self.steering, delta, self._page.get("perplexity_before"))
        self._page.update(page)
        return found | page, np.stack([before.codes, after.codes])

    def _unsteered(self, rows: pd.DataFrame) -> Read:
        """The same prompts are asked of many shifts: what they show without any is read once."""
        asked = tuple(rows.prompt)
        if asked not in self._before:
            self._before[asked] = self._read(np.zeros_like(self.steering.nmd), rows)
        return self._before[asked]

    def _read(self, delta: np.ndarray, rows: pd.DataFrame) -> Read:
        """What these prompts show under a shift: one pass."""
        sweep = self.steering.sweep(delta[None], rows)
        n = len(rows)
        return Read(*sweep.read(torch.zeros(n, dtype=torch.long), torch.arange(n)))


def divergence(log: torch.Tensor, other: torch.Tensor) -> float:
    """Mean KL(one || other) in nats, of log-probabilities `[n, vocabulary]`."""
    some = max(1, SCORES // log.shape[1])  # rows at a time, so that no copy of a large one is made
    parts = zip(log.split(some), other.split(some))
    return float(torch.cat([(one.exp() * (one - two)).sum(-1) for one, two in parts]).mean())
