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
    """A shift's cost: free and keyed accuracy before and after, and KL(unsteered || steered).

    The KL is that of the first answer token in nats, mean over the prompts: `kl_free` and
    `kl_keyed`, where nothing should change, and `kl_conflict`, which success itself makes large.
    """
    shifted = shift(steering.model, steering.site, steering.tensor(delta), steering.positions)
    found: dict[str, Any] = {"n_free": len(free), "n_keyed": len(keyed)}
    log: dict[str, dict] = {}
    for when, context in (("before", contextlib.nullcontext()), ("after", shifted)):
        with context:
            for name, rows in (("free", instances(free)), ("keyed", instances(keyed))):
                texts = answer(
                    steering.model,
                    steering.tokenizer,
                    [row.prompt for row in rows],
                    steering.task.max_answer_tokens,
                )
                found[f"{name}_accuracy_{when}"] = accuracy(rows, texts)
            log[when] = {
                name: first_token_log_probabilities(
                    steering.model, *tokenize_prompts(steering.tokenizer, list(rows.prompt))
                )
                for name, rows in (("free", free), ("keyed", keyed), ("conflict", conflict))
            }
    for name, before in log["before"].items():
        divergence = (before.exp() * (before - log["after"][name])).sum(-1)
        found[f"kl_{name}"] = float(divergence.mean())
    return found
