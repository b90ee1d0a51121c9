"""Does a state move along NMD because of the behaviour, or because the words change? (Lab 09.)"""

from __future__ import annotations

import numpy as np
import pandas as pd

from memgen.config.analyses import ConfoundsParameters
from memgen.neurons.nmd import nmd
from memgen.neurons.pairs import flips, same_behavior
from memgen.neurons.states import hidden_states
from memgen.stats.columns import columns, interval_pairs, numbers
from memgen.stats.intervals import interval, weighted_mean
from memgen.tasks.dataset import spread
from memgen.terms import GENERALIZATION, MEMORIZATION

PAIR_KINDS = {
    "flip": ("flip",),
    "memory": ("memory",),
    "rule": ("rule",),
    "same": ("memory", "rule"),
}


def context(
    model, tokenizer, answered: pd.DataFrame, p: ConfoundsParameters
) -> tuple[dict, pd.DataFrame]:
    """How far test pairs move along the train flips' direction; `n_prompts` at most per kind."""
    limit = max(1, p.n_prompts // 2)
    train, test = (
        answered[answered.split == split].reset_index(drop=True) for split in ("train", "test")
    )

    def differences(rows: pd.DataFrame, pairs: pd.DataFrame) -> np.ndarray:
        first, second = (
            hidden_states(model, tokenizer, rows.prompt[pairs[side].astype(int)], p.site)
            for side in ("memory", "rule")
        )
        return second - first

    fit = spread(flips(train, p.pairs), limit)
    found = {
        "flip": flips(test, p.pairs),
        "memory": same_behavior(test, MEMORIZATION, p.pairs),
        "rule": same_behavior(test, GENERALIZATION, p.pairs),
    }
    found = {kind: spread(pairs, limit) for kind, pairs in found.items()}
    table = movement(
        differences(train, fit),
        {kind: differences(test, pairs) for kind, pairs in found.items()},
        {kind: pairs.key.to_numpy() for kind, pairs in found.items()},
        p.seed,
        p.n_resamples,
    )
    result = {"n_train_pairs": len(fit)}
    for kind, rows in table.groupby("kind", sort=False):
        result |= {
            kind: numbers(rows["mean"]),
            f"{kind}_interval": interval_pairs(rows, "mean"),
            f"{kind}_size": numbers(rows["size"]),
            f"{kind}_size_interval": interval_pairs(rows, "size"),
            f"n_{kind}": int(rows.n.iloc[0]),
            f"n_{kind}_keys": int(rows.n_keys.iloc[0]),
        }
    return result, table


def movement(
    train: np.ndarray,
    differences: dict[str, np.ndarray],
    keys: dict[str, np.ndarray],
    seed: int,
    n_resamples: int,
) -> pd.DataFrame:
    """Pair differences projected on each layer's unit NMD, in units of |NMD| (train flip pairs).

    train: differences `[n, L, d]` of flip pairs of train keys (rule - memory); differences: by kind
    of pair (`flip`, `memory`, `rule`) the same of test keys. `same` pools the two kinds whose
    behaviour stays. Such a pair has no sign of its own (it is taken in the order of the
    rephrasings), so its `mean` shows a drift only; `size`, the mean of the absolute projection,
    shows how far rephrasing moves the state at all. Columns: kind, layer (from 1), mean and size,
    each with _low and _high, n, n_keys.
    """
    n_layer = train.shape[1]
    direction = nmd(np.zeros_like(train), train) if len(train) else np.zeros(train.shape[1:])
    square = (direction**2).sum(
        axis=1
    )  # [L]; one |NMD| makes the direction a unit vector, the other is the unit of the result
    direction = np.divide(
        direction, square[:, None], out=np.full_like(direction, np.nan), where=square[:, None] > 0
    )
    rows = []
    for kind, members in PAIR_KINDS.items():
        moved = np.einsum(
            "nld,ld->nl", np.concatenate([differences[name] for name in members]), direction
        )
        of = np.concatenate([keys[name] for name in members])
        for layer in range(n_layer):
            mean, size = (
                interval(weighted_mean, of, values, seed=seed, n_resamples=n_resamples)
                for values in (moved[:, layer], np.abs(moved[:, layer]))
            )
            rows.append(
                {"kind": kind, "layer": layer + 1, "n": len(of), "n_keys": mean.n_keys}
                | columns(mean=mean, size=size)
            )
    return pd.DataFrame(rows)
