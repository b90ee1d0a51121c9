"""Intervals of a mean over repeated draws and over keys: both are resampled."""

from __future__ import annotations

from typing import Any

import numpy as np

from memgen.stats.intervals import number, percentile_interval

N_RESAMPLES = 1000


def mean_over_draws(
    values: np.ndarray, keys: np.ndarray, seed: int, n_resamples: int = N_RESAMPLES
) -> dict[str, Any]:
    """`value`, `interval`, `n`, `n_keys`, `draws` of the mean of values `[draws, n]`.

    The rows of `keys` `[n]` with one key go together, and draws are resampled as keys are: without
    the draws the interval would be that of these very draws (crossed bootstrap; Owen 2007). None
    where there is no value; no interval for a single key.
    """
    values, keys = np.asarray(values, dtype=float), np.asarray(keys)
    if values.ndim != 2 or values.shape[1] != len(keys):
        raise ValueError(f"values {values.shape} is not [draws, {len(keys)}]")
    names, of_row = np.unique(keys, return_inverse=True)
    about = {"n": len(keys), "n_keys": len(names), "draws": len(values)}
    if not values.size:
        return {"value": None, "interval": None, **about}
    member = of_row[:, None] == np.arange(len(names))  # [n, keys]
    sums, sizes = values @ member, member.sum(axis=0)  # [draws, keys], [keys]
    rng = np.random.default_rng(seed)
    by_key = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=n_resamples)
    by_draw = rng.multinomial(len(values), np.full(len(values), 1 / len(values)), size=n_resamples)
    totals = np.einsum("bd,dk,bk->b", by_draw / len(values), sums, by_key, optimize=True)
    low, high = percentile_interval(totals / (by_key @ sizes))
    interval = [number(low), number(high)] if len(names) > 1 else None
    return {"value": float(values.mean()), "interval": interval, **about}
