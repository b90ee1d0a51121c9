"""How sure we are over seeds: a hierarchical bootstrap, or Student's interval of a number each.

Prompts of one key resemble each other, and so do keys of one model: drawn are therefore seeds and,
within a drawn seed, keys. Everything measured on a key goes with it, so two quantities on the same
keys are compared as a pair.

With the three seeds of the default study both say little about models that were not trained:
Student's interval is wide, as it should be; a bootstrap of three is known to be somewhat narrow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.stats import t

from memgen.stats.intervals import NAN, percentile_interval

N_RESAMPLES = 2000


class Effect(NamedTuple):
    """A quantity, its 95 % interval (nan: nothing varies), and how many prompts, keys, seeds."""

    value: float
    low: float
    high: float
    n: int
    n_keys: int
    n_seeds: int


NOTHING = Effect(NAN, NAN, NAN, 0, 0, 0)


def resampled(
    seeds: np.ndarray, keys: np.ndarray, rng: np.random.Generator, n_resamples: int = N_RESAMPLES
) -> np.ndarray:
    """How often each unit is drawn, `[n_resamples, units]`: seeds, then each drawn seed's keys.

    seeds, keys: [units], one row per key of a seed; both are drawn with replacement. Source:
    Davison & Hinkley (1997), Bootstrap Methods and their Application, 3.8.
    """
    names = np.unique(seeds)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=n_resamples)
    weights = np.zeros((n_resamples, len(seeds)))
    for column, name in enumerate(names):
        rows = np.flatnonzero(seeds == name)
        if len(np.unique(keys[rows])) != len(rows):
            raise ValueError(f"seed {name}: a key occurs twice; sum its rows first")
        weights[:, rows] = rng.multinomial(
            drawn[:, column] * len(rows), np.full(len(rows), 1 / len(rows))
        )
    return weights


def over_keys(
    statistic: Callable[[np.ndarray], np.ndarray],
    seeds: np.ndarray,
    keys: np.ndarray,
    n: int,
    seed: int = 0,
    n_resamples: int = N_RESAMPLES,
) -> Effect:
    """A statistic of the units with its hierarchical bootstrap interval.

    `statistic(weights [B, units]) -> [B]`; with all weights 1 it is the estimate. `n`: prompts
    behind it. One key in all gives no interval.
    """
    if len(seeds) == 0:
        return NOTHING
    with np.errstate(invalid="ignore", divide="ignore"):
        value = float(statistic(np.ones((1, len(seeds))))[0])
        draws = statistic(
            resampled(np.asarray(seeds), np.asarray(keys), np.random.default_rng(seed), n_resamples)
        )
    low, high = percentile_interval(draws[~np.isnan(draws)]) if len(seeds) > 1 else (NAN, NAN)
    return Effect(value, low, high, int(n), len(seeds), len(np.unique(seeds)))


def over_seeds(values: list[float | None], n: int = 0) -> Effect:
    """Mean of one number per seed (None: left out), Student's interval; none for a single seed."""
    known = np.array([v for v in values if v is not None and not math.isnan(v)], dtype=float)
    if not len(known):
        return NOTHING
    if len(known) == 1:
        return Effect(float(known[0]), NAN, NAN, n, 0, 1)
    error = known.std(ddof=1) / math.sqrt(len(known))
    low, high = (
        (known.mean(),) * 2 if error == 0 else t.interval(0.95, len(known) - 1, known.mean(), error)
    )
    return Effect(float(known.mean()), float(low), float(high), n, 0, len(known))


def rate(weights: np.ndarray, wins: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Share of successes [B] over weighted units; nan where none has a prompt. wins, n: [units]."""
    of_prompts: np.ndarray = weights @ wins / np.where(weights @ n > 0, weights @ n, np.nan)
    return of_prompts


def neuron_intervals(
    differences: np.ndarray, keys: np.ndarray, seed: int = 0, n_resamples: int = N_RESAMPLES
) -> dict[str, np.ndarray]:
    """Bootstrap intervals over keys: `nmd_low`, `nmd_high`, `effect_low`, `effect_high`, each [k].

    differences: [n, k], rule minus memory of every pair; keys: [n]. The ranking is not repeated in
    the resamples, so intervals of neurons chosen for being large lean outwards.
    """
    unique, of_row = np.unique(keys, return_inverse=True)
    if len(unique) < 2:
        return dict.fromkeys(
            ("nmd_low", "nmd_high", "effect_low", "effect_high"), np.full(differences.shape[1], NAN)
        )
    weights = resampled(np.zeros(len(unique)), unique, np.random.default_rng(seed), n_resamples)[
        :, of_row
    ]
    total = weights.sum(1, keepdims=True)
    mean = weights @ differences / total
    variance = weights @ differences**2 / total - mean**2
    effect = mean / np.sqrt(np.maximum(variance * total / np.maximum(total - 1, 1), 1e-30))
    found = {}
    for name, draws in (("nmd", mean), ("effect", effect)):
        found[f"{name}_low"], found[f"{name}_high"] = np.quantile(draws, [0.025, 0.975], axis=0)
    return found
