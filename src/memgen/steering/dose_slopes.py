"""Prompt by prompt: does more of the shift move the answer the way it should?

The log odds are log p(first token of the target's answer) - log p(that of the other one). Their slope
along the dose is one number per prompt. Where it is below 0 the prompt is *anti-steerable*: the shift
moves it the wrong way, whatever the mean says. Source: Tan et al. (2024), Analyzing the generalization and
reliability of steering vectors.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from memgen.stats.intervals import NAN
from memgen.steering.cells import random_shift
from memgen.steering.margins import margins
from memgen.steering.steering import Steering
from memgen.terms import SIGN

DOSES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the shift that was chosen


def slopes(log_odds: np.ndarray, doses: np.ndarray) -> np.ndarray:
    """Least-squares slope of each prompt's log odds `[doses, P]` along the doses `[doses]`: `[P]`."""
    centred = doses - doses.mean()
    found: np.ndarray = centred @ (log_odds - log_odds.mean(0)) / (centred**2).sum()
    return found


def dose_slopes(
    steering: Steering,
    shift: np.ndarray,
    rows: pd.DataFrame,
    direction: str,
    controls: tuple[int, np.random.Generator],
) -> pd.DataFrame:
    """A row per prompt whose two answers begin differently: key, prompt, slope, `control_<i>`, start.

    shift `[L, d]`, towards the rule, at dose 1. `controls`: how many random shifts (the same one with
    its coordinates permuted), and their generator. `start`: log odds without a shift.
    """
    prompts = steering.prompts(rows) if len(rows) else None
    n, rng = controls
    every = [shift, *(random_shift(shift, rng) for _ in range(n))]
    doses = np.array(DOSES)
    stack = np.concatenate([doses[:, None, None] * one for one in every])
    sign = SIGN[direction]
    found = sign * margins(steering, sign * stack, prompts)
    found = found.reshape(len(every), len(doses), len(rows))
    known = np.zeros(0, dtype=bool)
    if prompts is not None:
        begin = prompts.candidates[:, :, 0].cpu()
        known = (begin[:, 0] != begin[:, 1]).numpy()
    table = pd.DataFrame({"key": rows.key.to_numpy(), "prompt": rows.prompt.to_numpy()})
    table["start"] = found[0, 0] if len(rows) else []
    for number, of in enumerate(found):
        name = "slope" if number == 0 else f"control_{number}"
        table[name] = slopes(of, doses) if len(rows) else []
    return table[known].reset_index(drop=True)


def anti_steerable(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Per prompt: is its slope below 0, and the share of the controls whose slope is."""
    own = (table.slope < 0).to_numpy().astype(float)
    drawn = [name for name in table.columns if name.startswith("control_")]
    if not drawn:
        return own, np.full(len(table), NAN)
    return own, (table[drawn] < 0).to_numpy().mean(axis=1)
