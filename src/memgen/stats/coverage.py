"""How often the intervals of the study hold the truth, by simulation at its own numbers of seeds and keys."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from scipy.stats import norm

from memgen.stats.over_seeds import over_keys, rate


@dataclass(frozen=True)
class Design:
    """A study: seeds, test keys a seed, prompts a key; do its seeds share their keys?"""

    n_seeds: int
    n_keys: int
    n_prompts: int
    shared_keys: bool = False


@dataclass(frozen=True)
class Spread:
    """How much a rate differs: standard deviations of its log odds over seeds and over keys."""

    seeds: float
    keys: float


#: in log odds; at a rate of one half, .4 are ten points between seeds, and .8 twenty between keys
SPREADS = (Spread(0.0, 0.8), Spread(0.4, 0.8), Spread(0.8, 0.8))
MIDDLES = (0.5, 0.8)  # rates


def covered(design: Design, spread: Spread, middle: float, n_studies: int, seed: int) -> float:
    """In which share of simulated studies the 95 % interval of a rate holds the true mean rate.

    The log odds of a prompt are those of `middle`, plus what its seed and its key add (normal); the
    truth is the mean of the rate over all seeds and keys that there could be.
    """
    rng, hits = np.random.default_rng(seed), 0
    truth = _true_mean(spread, middle)
    seeds = np.repeat(np.arange(design.n_seeds), design.n_keys)
    keys = np.tile(np.arange(design.n_keys), design.n_seeds)
    n = np.full(len(seeds), design.n_prompts)
    wins = np.zeros_like(n)

    def share(weights: np.ndarray) -> np.ndarray:
        return rate(weights, wins, n)

    for _ in range(n_studies):
        of_seed = rng.normal(0, spread.seeds, design.n_seeds)[seeds]
        shape = design.n_keys if design.shared_keys else len(seeds)
        of_key = rng.normal(0, spread.keys, shape)
        of_key = of_key[keys] if design.shared_keys else of_key
        wins = rng.binomial(n, expit(logit(middle) + of_seed + of_key))
        found = over_keys(
            share,
            seeds,
            keys,
            int(n.sum()),
            shared_keys=design.shared_keys,
        )
        hits += found.low <= truth <= found.high
    return hits / n_studies


def _true_mean(spread: Spread, middle: float) -> float:
    """Of expit(normal), by a fine grid of quantiles of the normal sum of both deviations."""
    width = float(np.hypot(spread.seeds, spread.keys))
    quantiles = norm.ppf((np.arange(20000) + 0.5) / 20000)
    return float(expit(logit(middle) + width * quantiles).mean())


def coverage(design: Design, n_studies: int = 1000, seed: int = 0) -> list[dict[str, float]]:
    """`covered` for every spread and middle: rate, seeds_sd, keys_sd (log odds), covered, n_studies."""
    return [
        {
            "rate": middle,
            "seeds_sd": spread.seeds,
            "keys_sd": spread.keys,
            "covered": covered(design, spread, middle, n_studies, seed),
            "n_studies": n_studies,
        }
        for spread in SPREADS
        for middle in MIDDLES
    ]
