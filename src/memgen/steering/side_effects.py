"""What steering costs where nothing should change."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pandas as pd

from memgen.models.generate import answer, first_token_log_probabilities, tokenize_prompts
from memgen.models.hooks import shift
from memgen.steering.steering import Steering
from memgen.tasks import instances
from memgen.tasks.answers import accuracy


def side_effects(
    steering: Steering,
    delta: np.ndarray,
    free: pd.DataFrame,
    keyed: pd.DataFrame,
    conflict: pd.DataFrame,
) -> dict:
    """A shift's cost: free and keyed accuracy; first-token KL(unsteered || steered), nats."""
    found: dict[str, Any] = {}
    ids, mask = tokenize_prompts(steering.tokenizer, list(conflict.prompt))
    steered = shift(steering.model, steering.site, steering.tensor(delta), steering.positions)
    for when, context in (("before", contextlib.nullcontext()), ("after", steered)):
        with context:
            for name, rows in (("free", instances(free)), ("keyed", instances(keyed))):
                texts = answer(
                    steering.model,
                    steering.tokenizer,
                    [row.prompt for row in rows],
                    steering.task.max_answer_tokens,
                )
                found[f"{name}_accuracy_{when}"] = accuracy(rows, texts)
            found[when] = first_token_log_probabilities(steering.model, ids, mask)
    before, after = found.pop("before"), found.pop("after")
    return {**found, "kl": float((before.exp() * (before - after)).sum(-1).mean())}
