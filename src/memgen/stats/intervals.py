"""How sure we are of a number: Wilson intervals for rates, else a bootstrap over keys.

Prompts built from one key resemble each other. The independent units are therefore the keys: the
bootstrap draws keys and takes along all rows of a drawn key (a cluster bootstrap).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, SupportsFloat

import numpy as np

from memgen.phases import phase

NAN = float("nan")
#: of the rows of arrays; a weighted one takes `weights` [B, n], too, and gives [B] or [B, D]
Statistic = Callable[..., Any]


class Bootstrap(NamedTuple):
    """A statistic with its percentile interval. `n_degenerate` resamples gave nan and were left out."""

    estimate: float
    low: float
    high: float
    n_keys: int
    n_degenerate: int


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a rate; (0, 1), that is "nothing is known", for n = 0.

    It takes the n answers as independent: too narrow where few keys share many prompts, so show
    `bootstrap_by_key`, too. ValueError unless 0 <= successes <= n. Source: Wilson (1927), as in
    scipy.
    """
    from scipy.stats import binomtest

    if not 0 <= successes <= n:
        raise ValueError(f"wilson: successes must lie between 0 and n, got {successes} of {n}")
    if n == 0:
        return 0.0, 1.0
    interval = binomtest(int(successes), int(n)).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def pooled(rates: list[tuple[float, int]]) -> dict[str, float | int]:
    """Rates `(rate, n)` as one: `success` (0 without n), `low`, `high` (Wilson), `n`, `seeds`."""
    n, wins = sum(k for _, k in rates), sum(round(rate * k) for rate, k in rates)
    low, high = wilson(wins, n)
    return {
        "success": wins / n if n else 0.0,
        "low": low,
        "high": high,
        "n": n,
        "seeds": len(rates),
    }


def bootstrap_by_key(
    statistic: Statistic,
    keys: np.ndarray,
    *arrays: np.ndarray,
    seed: int,
    n_resamples: int = 1000,
    confidence: float = 0.95,
    weighted: bool = False,
) -> Bootstrap:
    """Percentile interval of a statistic under resampling of keys.

    keys: [n]; arrays: each [n, ...], rows aligned with keys. statistic: `statistic(*arrays) ->
    float`, called once a resample with the drawn rows. With `weighted=True` it is instead
    `statistic(*arrays, weights=[B, n]) -> [B]`, called a few times with all rows and how often each
    was drawn. It may return [B, D] for D repetitions of an experiment on these rows; the estimate
    is then their mean, and the interval is that of a single one.

    Resamples for which the statistic is nan (an AUC of one class, say) are dropped and counted.
    Fewer than two keys show no spread: the interval is nan, not zero wide. Percentile intervals run
    narrow below some 20 keys, and have no width when every key agrees (AUC of 1). Raises ValueError
    where the rows of an array and the keys do not match, or there are none. Source: Davison &
    Hinkley (1997), Bootstrap Methods and their Application, 3.8.
    """
    keys = np.asarray(keys)
    arrays = tuple(np.asarray(array) for array in arrays)
    n = len(keys)
    if n == 0:
        raise ValueError("bootstrap_by_key: there are no rows")
    for array in arrays:
        if len(array) != n:
            raise ValueError(f"bootstrap_by_key: {n} keys, but an array of {len(array)} rows")

    unique, key_of_row = np.unique(keys, return_inverse=True)
    n_keys = len(unique)
    uniform = np.full(n_keys, 1 / n_keys)
    counts = np.random.default_rng(seed).multinomial(
        n_keys, uniform, size=n_resamples
    )  # [B, n_keys]

    with phase("probes"):
        if weighted:
            estimate = float(np.mean(statistic(*arrays, weights=np.ones((1, n)))))
            blocks = np.array_split(
                counts, -(-n_resamples // 256)
            )  # bounds the memory of weights [256, n]
            draws = np.concatenate(
                [statistic(*arrays, weights=block[:, key_of_row].astype(float)) for block in blocks]
            )
            draws = draws.ravel()
        else:
            estimate = float(statistic(*arrays))
            drawn_rows = (np.repeat(np.arange(n), count[key_of_row]) for count in counts)
            draws = np.array(
                [statistic(*(array[rows] for array in arrays)) for rows in drawn_rows], dtype=float
            )

    valid = draws[~np.isnan(draws)]
    low, high = percentile_interval(valid, confidence) if n_keys > 1 else (NAN, NAN)
    return Bootstrap(estimate, low, high, n_keys, n_degenerate=len(draws) - len(valid))


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean [B] of values [n] under weights [B, n]: a statistic for a weighted bootstrap."""
    mean: np.ndarray = weights @ values / weights.sum(axis=1)
    return mean


def number(value: SupportsFloat | None) -> float | None:
    """A float for a `result.json`, or None where it is undefined or not finite."""
    return float(value) if value is not None and np.isfinite(float(value)) else None


def percentile_interval(draws: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """The central `confidence` share of the draws [B]; nan where there are none."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    if len(draws) == 0:
        return NAN, NAN
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def interval(
    statistic: Statistic, keys: np.ndarray, *arrays: np.ndarray, seed: int, n_resamples: int
) -> Bootstrap:
    """`bootstrap_by_key` of a weighted statistic, and nan where there is no row."""
    if len(keys) == 0:
        return Bootstrap(NAN, NAN, NAN, 0, 0)
    return bootstrap_by_key(
        statistic, keys, *arrays, seed=seed, n_resamples=n_resamples, weighted=True
    )
