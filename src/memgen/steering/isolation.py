"""Cause and isolate: does a shift change what it should change, and nothing else?

*Cause* is the share of the prompts that it should turn that it turns; *isolate* the share of other
prompts, answered right before, that are answered right after; their mean is the score. Other prompts are
conflict prompts that show the target's behaviour already, free prompts and keyed prompts. Source: Huang
et al. (2024), RAVEL (its Disentangle score, here of behaviours and not of attributes).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from memgen.steering.steering import Steering
from memgen.terms import MEMORY_CODE, RULE_CODE, SIGN, TARGET

#: kinds of prompts that a shift should leave alone
ALONE = ("shown", "free", "keyed")


@dataclass(frozen=True)
class Asked:
    """Prompts of one direction: those to turn, and by kind (`ALONE`) those to leave alone."""

    turn: pd.DataFrame
    alone: Mapping[str, pd.DataFrame]


def kept_answers(
    steering: Steering, shifts: np.ndarray, asked: Asked, direction: str
) -> pd.DataFrame:
    """A row per prompt and shift: shift (its number), kind (`turn` or of `ALONE`), key, done.

    shifts `[C, L, d]`, towards the rule. `done`: turned, or right as before; of prompts to leave alone
    those that the untouched model answers wrong are left out.
    """
    right = {"turn": TARGET[direction], "shown": TARGET[direction]}
    right |= {"free": RULE_CODE, "keyed": MEMORY_CODE}
    every = SIGN[direction] * np.concatenate([np.zeros((1, *shifts.shape[1:])), shifts])
    parts = []
    for kind, rows in {"turn": asked.turn, **asked.alone}.items():
        if rows.empty:
            continue
        done = steering.outcomes(every, rows) == right[kind]
        before = np.ones(len(rows), dtype=bool) if kind == "turn" else done[0]
        for number, after in enumerate(done[1:]):
            part = pd.DataFrame({"shift": number, "kind": kind, "key": rows.key.to_numpy()})
            parts.append(part.assign(done=after)[before])
    return pd.concat(parts, ignore_index=True)


def scores(rows: pd.DataFrame) -> dict[str, float | None]:
    """`cause`, `isolate` (mean of the kinds that there are), `score`, and each kind's share; one shift."""
    shares = rows.groupby("kind").done.mean()
    found: dict[str, float | None] = {
        kind: float(shares[kind]) if kind in shares else None for kind in ("turn", *ALONE)
    }
    left = [share for kind in ALONE if (share := found[kind]) is not None]
    cause = found.pop("turn")
    isolate = float(np.mean(left)) if left else None
    score = None if cause is None or isolate is None else (cause + isolate) / 2
    return {"cause": cause, "isolate": isolate, "score": score, **found}
