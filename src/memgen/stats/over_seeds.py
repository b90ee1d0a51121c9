"""How sure we are over seeds: Student's interval of one number per seed, and of keys that seeds share.

A study says something about models that were not trained only as far as its seeds differ. So every
quantity is computed seed by seed, from that seed's test keys, and its interval is Student's over
these numbers: what differs between keys and between draws of a control within a seed is part of
how the seeds differ, and needs no term of its own.

Unless all seeds were asked about the same keys (retrains on one base): then a key that is easy is
easy in each of them, and the seeds agree about something that other keys would not share. There the
variance over keys, by a jackknife that leaves a key out of all seeds at once, is added.
`memgen.stats.coverage` measures how often both intervals hold the truth at the study's own numbers
of seeds and keys.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.stats import nct, t

from memgen.stats.intervals import NAN

N_RESAMPLES = 2000  # of `neuron_intervals`
CONFIDENCE, POWER = 0.95, 0.80


class Effect(NamedTuple):
    """A quantity, its 95 % interval (nan: nothing varies), and how many prompts, keys, seeds.

    `detectable`: the smallest true effect that would have kept 0 (or the threshold) outside such an
    interval in 80 % of studies as large and as noisy as this one (nan: no interval).
    """

    value: float
    low: float
    high: float
    n: int
    n_keys: int
    n_seeds: int
    detectable: float = NAN


NOTHING = Effect(NAN, NAN, NAN, 0, 0, 0)


def of_a_share(effect: Effect) -> Effect:
    """The same, its interval cut at 0 and 1: no share, rate or AUC lies beyond."""
    low, high = (float(np.clip(end, 0, 1)) for end in (effect.low, effect.high))
    return effect._replace(low=low, high=high)


def over_seeds(values: list[float | None], n: int = 0, resolution: float = 0.0) -> Effect:
    """Mean of one number per seed (None, nan: left out), Student's interval; none for one seed.

    `resolution`: the step in which such a number can change (1 / the units that it counts). Seeds
    that agree to less than that show how coarse the number is, not that they are alike, so their
    standard deviation counts as half a step at least.
    """
    known = np.array([v for v in values if v is not None and not math.isnan(v)], dtype=float)
    if not len(known):
        return NOTHING
    about, freedom = (n, 0, len(known)), len(known) - 1
    parts = [(_variance(known, resolution), freedom)] if freedom else []
    return _effect(float(known.mean()), about, *parts)


def over_keys(
    statistic: Callable[[np.ndarray], np.ndarray],
    seeds: np.ndarray,
    keys: np.ndarray,
    n: int,
    *,
    shared_keys: bool = False,
) -> Effect:
    """A statistic of units (a row per key of a seed), computed in every seed; its mean and interval.

    `statistic(weights [B, units]) -> [B]`; a seed's own value is that with weight 1 on its units
    and 0 elsewhere. `n`: prompts behind it. `shared_keys`: the seeds were asked about the same
    keys (see above); their names tell which. Errors: `ValueError` if a key occurs twice in a seed.
    """
    seeds, keys = np.asarray(seeds), np.asarray(keys)
    if len(seeds) == 0:
        return NOTHING
    names = np.unique(seeds)
    for name in names:
        if len(np.unique(keys[seeds == name])) != (seeds == name).sum():
            raise ValueError(f"seed {name}: a key occurs twice; sum its rows first")
    of_seed = (seeds == names[:, None]).astype(float)  # [S, units]
    with np.errstate(invalid="ignore", divide="ignore"):
        values = np.asarray(statistic(of_seed), dtype=float)
    defined = ~np.isnan(values)
    n_seeds, about = (
        int(defined.sum()),
        (int(n), len(np.unique(keys)) if shared_keys else len(seeds)),
    )
    if not n_seeds:
        return NOTHING
    mean = float(values[defined].mean())
    if n_seeds == 1:
        return _effect(mean, (*about, 1))
    parts = [(_variance(values[defined], n_seeds / max(n, 1)), n_seeds - 1)]
    if shared_keys and (n_keys := len(np.unique(keys))) > 1:
        parts.append((_jackknife(statistic, of_seed[defined], keys), n_keys - 1))
    return _effect(mean, (*about, n_seeds), *parts)


def _variance(values: np.ndarray, resolution: float) -> float:
    """Of the mean of one number per seed [S], S > 1."""
    return float(max(values.std(ddof=1), resolution / 2) ** 2 / len(values))


def _jackknife(
    statistic: Callable[[np.ndarray], np.ndarray], of_seed: np.ndarray, keys: np.ndarray
) -> float:
    """Variance over keys of the mean over seeds: each key in turn is left out of all seeds.

    nan if that is defined for fewer than two keys: then nothing is known of how keys differ.
    """
    names = np.unique(keys)
    kept = of_seed[:, None, :] * (keys != names[:, None])[None]  # [S, K, units]
    with np.errstate(invalid="ignore", divide="ignore"):
        found = statistic(kept.reshape(-1, len(keys))).reshape(len(of_seed), len(names))
    known = ~np.isnan(found)
    some = known.any(axis=0)
    without = np.where(known, found, 0).sum(axis=0)[some] / known.sum(axis=0)[some]
    return float((len(without) - 1) * without.var()) if len(without) > 1 else NAN


def half_widths(
    values: np.ndarray, resolution: float, without: np.ndarray | None = None
) -> np.ndarray:
    """Half of the interval's width, of many studies at once [N]; nothing may be undefined.

    values: [N, S], one number per seed, S > 1, with their `resolution` as in `over_seeds`; without:
    [N, S, K], the same without each of the keys that the seeds share.
    """
    n_seeds = values.shape[1]
    spread = np.maximum(values.std(axis=1, ddof=1), resolution / 2)
    half: np.ndarray = _quantile(n_seeds - 1) * spread / math.sqrt(n_seeds)
    if without is not None:
        n_keys = without.shape[2]
        of_keys = (n_keys - 1) * without.mean(axis=1).var(axis=1)
        half = np.hypot(half, _quantile(n_keys - 1) * np.sqrt(of_keys))
    return half


def _effect(value: float, about: tuple[int, int, int], *parts: tuple[float, int]) -> Effect:
    """`parts`: variances, each with its degrees of freedom; none: no interval.

    The half widths that the parts would have alone add up as their squares do.
    """
    if not parts:
        return Effect(value, NAN, NAN, *about)
    half = math.hypot(*(_quantile(freedom) * math.sqrt(part) for part, freedom in parts))
    power = math.hypot(*(_detectable(freedom) * math.sqrt(part) for part, freedom in parts))
    return Effect(value, value - half, value + half, *about, power)


@cache
def _quantile(freedom: int) -> float:
    return float(t.ppf((1 + CONFIDENCE) / 2, freedom))


@cache
def _detectable(freedom: int) -> float:
    """The true effect, in standard errors, that a two-sided t test finds with power `POWER`."""
    limit = _quantile(freedom)
    return float(brentq(lambda effect: nct.sf(limit, freedom, effect) - POWER, 0, 20))


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
    drawn = np.random.default_rng(seed).multinomial(
        len(unique), np.full(len(unique), 1 / len(unique)), size=n_resamples
    )
    weights = drawn[:, of_row].astype(float)
    total = weights.sum(1, keepdims=True)
    mean = weights @ differences / total
    variance = weights @ differences**2 / total - mean**2
    effect = mean / np.sqrt(np.maximum(variance * total / np.maximum(total - 1, 1), 1e-30))
    found = {}
    for name, draws in (("nmd", mean), ("effect", effect)):
        found[f"{name}_low"], found[f"{name}_high"] = np.quantile(draws, [0.025, 0.975], axis=0)
    return found
