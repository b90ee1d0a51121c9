"""How often the intervals of the study hold the truth, by simulation at its own numbers of seeds and keys.

A verdict uses the interval of a rate, of a difference between two rates of the same keys, of an AUC,
of an AUC's gain over a baseline's, and of the smallest of several distances (the gate). Each is
simulated: studies are drawn in which the truth is known, the quantity is computed in every seed as
`memgen.claims.quantities` does, and the interval is that of `memgen.stats.over_seeds`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit
from scipy.stats import norm

from memgen.stats.auc import CHANCE
from memgen.stats.over_seeds import half_widths

Rng = np.random.Generator
BATCH = 200  # studies that are simulated at once; more take more memory


@dataclass(frozen=True)
class Design:
    """A study: seeds, test keys a seed, prompts a key; do its seeds share their keys?"""

    n_seeds: int
    n_keys: int
    n_prompts: int
    shared_keys: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        return self.n_seeds, self.n_keys


@dataclass(frozen=True)
class Spread:
    """How much seeds and keys differ: standard deviations, of a rate's log odds over seeds and keys;
    for AUCs, of the distance between the behaviours' mean scores over seeds and of the scores over
    keys, both in units of a score's own deviation within a key.
    """

    seeds: float
    keys: float


#: in log odds; at a rate of one half, .4 are ten points between seeds, and .8 twenty between keys
SPREADS = (Spread(0.0, 0.8), Spread(0.4, 0.8), Spread(0.8, 0.8))
#: in `smallest`: where the gate lies (as `claims.quantities.behaviors` has it), answers that are neither
AT_LEAST, AT_MOST, OTHER = 0.25, 0.20, 0.05


class Drawn(NamedTuple):
    """A quantity in simulated studies: its truth; its values by seed [N, S, 1], or [N, S, 1 + K] where
    seeds share their keys: over all keys, then without each of them in turn. nan: one behaviour only.
    """

    truth: float
    values: np.ndarray


class _Keys:
    """What keys and seeds add, drawn for `n` studies of a design."""

    def __init__(self, design: Design, spread: Spread, n: int, rng: np.random.Generator):
        self.design, self.spread, self.n, self.rng = design, spread, n, rng

    def of_seeds(self) -> np.ndarray:
        """[N, S, 1]"""
        return self.rng.normal(0, self.spread.seeds, (self.n, self.design.n_seeds, 1))

    def of_keys(self) -> np.ndarray:
        """[N, S, K], the same in all seeds where they share their keys."""
        n_seeds = 1 if self.design.shared_keys else self.design.n_seeds
        drawn = self.rng.normal(0, self.spread.keys, (self.n, n_seeds, self.design.n_keys))
        return np.broadcast_to(drawn, (self.n, *self.design.shape))


def a_rate(design: Design, spread: Spread, planted: tuple[float, ...], n: int, rng: Rng) -> Drawn:
    """A share of successes. The log odds of a prompt are those of `planted`, plus what its seed and
    its key add (normal); the truth is the mean over all seeds and keys that there could be.
    """
    keys, (middle,) = _Keys(design, spread, n, rng), planted
    wins = _wins(keys, middle, keys.of_keys())
    return Drawn(_mean_rate(spread, middle), _share(wins, design))


def a_difference(
    design: Design, spread: Spread, planted: tuple[float, ...], n: int, rng: Rng
) -> Drawn:
    """One rate less another on the same keys: an easy key is easy in both; seeds differ in each."""
    keys = _Keys(design, spread, n, rng)
    of_keys = keys.of_keys()
    one, other = (_share(_wins(keys, middle, of_keys), design) for middle in planted)
    truth = _mean_rate(spread, planted[0]) - _mean_rate(spread, planted[1])
    return Drawn(truth, one - other)


def smallest(design: Design, spread: Spread, planted: tuple[float, ...], n: int, rng: Rng) -> Drawn:
    """The smallest distance of three rates from their limits, as the gate has it.

    `planted`: the share of memory among answers that are memory or rule; `OTHER` of all are neither.
    Both vary over seeds, the first over keys. The truth is the mean over seeds of the smallest
    distance of a seed's own rates.
    """
    keys, (middle,) = _Keys(design, spread, n, rng), planted
    other = expit(logit(OTHER) + keys.of_seeds())
    neither = keys.rng.binomial(design.n_prompts, np.broadcast_to(other, (n, *design.shape)))
    share = expit(logit(middle) + keys.of_seeds() + keys.of_keys())
    memory = keys.rng.binomial(design.n_prompts - neither, share)

    x = spread.seeds * _QUANTILES
    remembered = expit(logit(middle) + x[:, None] + spread.keys * _QUANTILES).mean(axis=1)
    neither_rate = expit(logit(OTHER) + x)[:, None]
    truth = _slack((1 - neither_rate) * remembered, neither_rate).mean()
    return Drawn(float(truth), _slack(_share(memory, design), _share(neither, design)))


def an_auc(design: Design, spread: Spread, planted: tuple[float, ...], n: int, rng: Rng) -> Drawn:
    """AUC of scores that are normal around their behaviour, their key and their seed's distance."""
    keys, (area,) = _Keys(design, spread, n, rng), planted
    labels, of_keys = _labels(keys), keys.of_keys()
    return Drawn(area, _auc(labels, _scores(keys, area, labels, of_keys), design))


def a_gain(design: Design, spread: Spread, planted: tuple[float, ...], n: int, rng: Rng) -> Drawn:
    """AUC of a probe less the larger of a baseline's and one half, on the same prompts.

    The truth is the mean over seeds of that difference between a seed's own areas.
    """
    keys = _Keys(design, spread, n, rng)
    labels, of_keys = _labels(keys), keys.of_keys()
    probe, baseline = (_scores(keys, area, labels, of_keys) for area in planted)
    x = _distance(spread, planted[1]) + spread.seeds * _QUANTILES
    beaten = np.maximum(CHANCE, norm.cdf(x / _noise(spread))).mean()
    gains = _auc(labels, probe, design) - np.maximum(CHANCE, _auc(labels, baseline, design))
    return Drawn(float(planted[0] - beaten), gains)


#: what verdicts rest on: the quantity, and which truths are planted
QUANTITIES: dict[str, tuple[Callable[..., Drawn], tuple[tuple[float, ...], ...]]] = {
    "rate": (a_rate, ((0.5,), (0.8,))),
    "difference of rates": (a_difference, ((0.5, 0.5), (0.8, 0.1))),
    "smallest distance": (smallest, ((0.5,), (0.4,))),
    "AUC": (an_auc, ((0.6,), (0.9,))),
    "gain in AUC": (a_gain, ((0.75, 0.5), (0.75, 0.7))),
}
_QUANTILES = norm.ppf((np.arange(1000) + 0.5) / 1000)  # of the standard normal


def covered(
    quantity: str,
    design: Design,
    spread: Spread,
    planted: tuple[float, ...],
    n_studies: int,
    seed: int,
) -> float:
    """In which share of simulated studies the 95 % interval of a quantity holds its true mean.

    Studies in which it is undefined in a seed are not counted.
    """
    simulate, step = QUANTITIES[quantity][0], 1 / (design.n_keys * design.n_prompts)
    held = []
    for first in range(0, n_studies, BATCH):
        rng = np.random.default_rng([seed, first])
        truth, values = simulate(design, spread, planted, min(BATCH, n_studies - first), rng)
        without = values[..., 1:] if design.shared_keys else None
        half = half_widths(values[..., 0], step, without)
        miss = np.abs(values[..., 0].mean(axis=1) - truth)
        held.append((miss <= half)[~np.isnan(half)])
    return float(np.concatenate(held).mean())


def coverage(
    designs: dict[str, Design], n_studies: int = 1000, seed: int = 0
) -> list[dict[str, object]]:
    """`covered` for the quantities that `designs` names, every planted truth and every spread:
    quantity, planted, seeds_sd, keys_sd, n_keys, covered, n_studies.
    """
    return [
        {
            "quantity": name,
            "planted": list(planted),
            "seeds_sd": spread.seeds,
            "keys_sd": spread.keys,
            "n_keys": design.n_keys,
            "covered": covered(name, design, spread, planted, n_studies, seed),
            "n_studies": n_studies,
        }
        for name, design in designs.items()
        for planted in QUANTITIES[name][1]
        for spread in SPREADS
    ]


def _wins(keys: _Keys, middle: float, of_keys: np.ndarray) -> np.ndarray:
    """Successes of every key [N, S, K]."""
    odds = logit(middle) + keys.of_seeds() + of_keys
    wins: np.ndarray = keys.rng.binomial(keys.design.n_prompts, expit(odds))
    return wins


def _share(wins: np.ndarray, design: Design) -> np.ndarray:
    """Of successes [N, S, K], as `Drawn` has them; all keys have as many prompts."""
    total = wins.sum(axis=-1, keepdims=True)
    whole: np.ndarray = total / (design.n_keys * design.n_prompts)
    if not design.shared_keys:
        return whole
    return np.concatenate([whole, (total - wins) / ((design.n_keys - 1) * design.n_prompts)], -1)


def _slack(memory: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The smallest distance of memory, rule and other answers from their limits."""
    rule = 1 - memory - other
    slack: np.ndarray = np.minimum(np.minimum(memory, rule) - AT_LEAST, AT_MOST - other)
    return slack


def _mean_rate(spread: Spread, middle: float) -> float:
    """Of expit(normal), by quantiles of the normal sum of both deviations."""
    width = float(np.hypot(spread.seeds, spread.keys))
    quantiles = norm.ppf((np.arange(20000) + 0.5) / 20000)
    return float(expit(logit(middle) + width * quantiles).mean())


def _labels(keys: _Keys) -> np.ndarray:
    """Behaviours [N, S, K, P]: keys lean to one of them, on average half of the prompts have each."""
    leaning = expit(keys.of_keys())[..., None]
    shape = (keys.n, *keys.design.shape, keys.design.n_prompts)
    by_rule: np.ndarray = keys.rng.random(shape) < leaning
    return by_rule


def _noise(spread: Spread) -> float:
    """Standard deviation of the difference between two prompts' scores beside their behaviours."""
    return float(np.sqrt(2 * (1 + spread.keys**2)))


def _distance(spread: Spread, area: float) -> float:
    """Between the behaviours' mean scores, on average over seeds, for this mean area under the curve."""
    return float(norm.ppf(area) * np.hypot(_noise(spread), spread.seeds))


def _scores(keys: _Keys, area: float, labels: np.ndarray, of_keys: np.ndarray) -> np.ndarray:
    """[N, S, K, P]; the key's part is the same for every score that sees these prompts."""
    distance = _distance(keys.spread, area) + keys.of_seeds()[..., None]
    noise = keys.rng.normal(0, 1, labels.shape)
    scores: np.ndarray = distance * labels + of_keys[..., None] + noise
    return scores


def _auc(labels: np.ndarray, scores: np.ndarray, design: Design) -> np.ndarray:
    """As `Drawn` has it, from [N, S, K, P]; no two scores are alike.

    A pair is a prompt of the rule and one of memory. Those that a key has part in are those of its
    rule prompts and those of its memory prompts, less those within the key, which are in both.
    """
    flat = scores.reshape(*scores.shape[:2], -1)
    order, rule, memories = _sorted(labels.reshape(flat.shape), flat)
    whole = (memories * rule).sum(axis=-1, keepdims=True)
    n_rule = labels.sum(axis=-1).astype(float)
    n_memory = labels.shape[-1] - n_rule
    all_rule, all_memory = (one.sum(axis=-1, keepdims=True) for one in (n_rule, n_memory))
    with np.errstate(invalid="ignore"):
        area: np.ndarray = whole / (all_rule * all_memory)
        if not design.shared_keys:
            return area
        # of a rule prompt the memories below it, of a memory the rules above it
        by_prompt = np.empty_like(flat)
        rules = np.cumsum(rule, axis=-1)
        right = np.where(rule > 0, memories, rules[..., -1:] - rules)
        np.put_along_axis(by_prompt, order, right, axis=-1)
        of_key = by_prompt.reshape(scores.shape).sum(axis=-1)
        _, rule, memories = _sorted(labels, scores)
        within = (memories * rule).sum(axis=-1)
        left = (whole - of_key + within) / ((all_rule - n_rule) * (all_memory - n_memory))
        return np.concatenate([area, left], axis=-1)


def _sorted(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Along the last axis by score: the order, 1 for prompts of the rule, memories up to there."""
    order = np.argsort(scores, axis=-1)
    rule = np.take_along_axis(labels, order, axis=-1).astype(float)
    return order, rule, np.cumsum(1 - rule, axis=-1)
