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
    by_key, by_draw = (resampled(k, rng, n_resamples) for k in (len(names), len(values)))
    low, high = crossed_interval(sums, np.broadcast_to(sizes, sums.shape), by_draw, by_key)
    interval = [number(low), number(high)] if len(names) > 1 else None
    return {"value": float(values.mean()), "interval": interval, **about}


def resampled(n_units: int, rng: np.random.Generator, n_resamples: int = N_RESAMPLES) -> np.ndarray:
    """How often each of the units is drawn, with replacement: `[n_resamples, n_units]`."""
    return rng.multinomial(n_units, np.full(n_units, 1 / n_units), size=n_resamples).astype(float)


def crossed_interval(
    sums: np.ndarray, counts: np.ndarray, by_draw: np.ndarray, by_key: np.ndarray
) -> tuple[float, float]:
    """95 % interval of a mean that would differ with other draws and with other keys.

    `sums`, `counts` `[draws, keys]`: of the values of one draw on one key (a draw need not have been
    run on all); `by_draw`, `by_key`: as `resampled`, crossed, so the values of one draw, and those of
    one key, stay together; it is rather too wide than too narrow. Source: Owen (2007), The
    pigeonhole bootstrap, Ann. Appl. Stat. 1.
    """
    total, n = (np.einsum("bd,dk,bk->b", by_draw, x, by_key, optimize=True) for x in (sums, counts))
    return percentile_interval(total[n > 0] / n[n > 0])
