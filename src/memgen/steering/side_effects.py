"""What steering costs where nothing should change."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch

from memgen.models.generate import answer, first_token_log_probabilities, tokenize_prompts
from memgen.models.hooks import shift
from memgen.steering.steering import Steering
from memgen.tasks import instances
from memgen.tasks.answers import accuracy


@dataclass(frozen=True)
class Elsewhere:
    """Free and keyed prompts, on which steering should change nothing, and what it changes there."""

    steering: Steering
    free: pd.DataFrame
    keyed: pd.DataFrame

    @cached_property
    def before(self) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
        """What the unsteered model does, as `_read` has it."""
        return self._read()

    def side_effects(self, delta: np.ndarray, conflict: pd.DataFrame) -> dict:
        """The cost of a (signed) shift `[L, d]`: accuracies before and after, KL(unsteered || it).

        The KL is that of the first answer token in nats, mean over the prompts: `kl_free` and
        `kl_keyed`, where nothing should change, and `kl_conflict`, which success itself makes large.
        """
        steering, delta = self.steering, self.steering.tensor(delta)
        (right, log), asked = self.before, self._log(conflict)
        with shift(steering.model, steering.site, delta, steering.positions):
            (right_after, log_after), asked_after = self._read(), self._log(conflict)
        found: dict[str, Any] = {"n_free": len(self.free), "n_keyed": len(self.keyed)}
        for name, value in right.items():
            found[f"{name}_accuracy_before"] = value
            found[f"{name}_accuracy_after"] = right_after[name]
        logs = {name: (one, log_after[name]) for name, one in log.items()}
        for name, (one, other) in (logs | {"conflict": (asked, asked_after)}).items():
            found[f"kl_{name}"] = float((one.exp() * (one - other)).sum(-1).mean())
        return found

    def _read(self) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
        """Accuracies, and the first tokens' log-probabilities `[n, vocabulary]`: free and keyed."""
        right, log = {}, {}
        model, tokenizer = self.steering.model, self.steering.tokenizer
        for name, rows in (("free", self.free), ("keyed", self.keyed)):
            longest = self.steering.task.max_answer_tokens
            texts = answer(model, tokenizer, list(rows.prompt), longest)
            right[name], log[name] = accuracy(instances(rows), texts), self._log(rows)
        return right, log

    def _log(self, rows: pd.DataFrame) -> torch.Tensor:
        ids, mask = tokenize_prompts(self.steering.tokenizer, list(rows.prompt))
        return first_token_log_probabilities(self.steering.model, ids, mask)
