"""Would other data have found the same neurons? Jaccard of two sets of top neurons, and by chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memgen.neurons.selection import select_top
from memgen.stats.intervals import NAN, percentile_interval

BATCH = 64  # halvings whose maps are made together


@dataclass(frozen=True)
class PairSums:
    """Sums over the flip pairs of each key, from which rho of any weighted set of keys follows.

    `count` `[K]`: pairs; `memory`, `rule`: sums of states `[K, L * d]`; `squares`: of both sides'
    squares. `shape`: (L, d).
    """

    count: np.ndarray
    memory: np.ndarray
    rule: np.ndarray
    squares: np.ndarray
    shape: tuple[int, int]

    @classmethod
    def of(cls, memory: np.ndarray, rule: np.ndarray, keys: np.ndarray) -> PairSums:
        """States `[n, L, d]` of the pairs, and their keys `[n]`."""
        _, of_pair = np.unique(keys, return_inverse=True)
        member = np.eye(of_pair.max() + 1)[of_pair].T if len(keys) else np.zeros((0, 0))
        # around the mean: of large numbers the squares' differences would be rounding
        sides = [np.asarray(x, dtype=np.float64).reshape(len(keys), -1) for x in (memory, rule)]
        middle = (sides[0].mean(0) + sides[1].mean(0)) / 2
        low, high = (side - middle for side in sides)
        shape = memory.shape[1:]
        return cls(
            member.sum(1), member @ low, member @ high, member @ (low**2 + high**2), tuple(shape)
        )

    def rho(self, weights: np.ndarray) -> np.ndarray:
        """Correlation of each neuron with the behaviour under weights of keys `[B, K]`: `[B, L, d]`.

        A neuron that does not vary has 0, as in `nmd.correlation`.
        """
        n = (weights @ self.count)[:, None]
        low, high = weights @ self.memory / n, weights @ self.rule / n
        mean = (low + high) / 2
        spread = np.sqrt(np.maximum(weights @ self.squares / (2 * n) - mean**2, 0))
        found = np.divide((high - low) / 2, spread, out=np.zeros_like(spread), where=spread > 1e-9)
        return found.reshape(len(weights), *self.shape)


def jaccard(one: np.ndarray, other: np.ndarray) -> float:
    """Neurons in both masks over those in either; nan for two empty ones."""
    either = (one | other).sum()
    return float((one & other).sum() / either) if either else NAN


def by_chance(one: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> float:
    """Jaccard of random sets that have as many neurons in each layer as these masks `[L, d]`: one draw."""
    return jaccard(*(rng.permuted(mask, axis=1) for mask in (one, other)))


def halvings(n_keys: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Weights `[n, 2, n_keys]`: the keys are dealt into two halves (of an odd number one is left out)."""
    found, half = np.zeros((n, 2, n_keys)), n_keys // 2
    for draw in found:
        order = rng.permutation(n_keys)
        draw[0, order[:half]] = draw[1, order[half : 2 * half]] = 1
    return found


def resamples(n_keys: int, n: int, rng: np.random.Generator) -> np.ndarray:
    """Weights `[n, 2, n_keys]`: all keys, and as many drawn with replacement."""
    drawn = rng.multinomial(n_keys, np.full(n_keys, 1 / n_keys), size=n).astype(float)
    return np.stack([np.ones_like(drawn), drawn], axis=1)


def agreement(
    sums: PairSums, weights: np.ndarray, share: float, rng: np.random.Generator
) -> dict[str, float]:
    """Of the top `share` by |rho| under both sets of weights `[n, 2, K]`: Jaccard, mean of the draws.

    With `low`, `high` (the middle 95 % of the draws: how far it depends on the draw, no interval for
    its mean), `null`: that of random sets as large in each layer, and `above`: by how much it is more.
    nan with fewer than two keys, or where a draw has no pair.
    """
    nothing = dict.fromkeys(("jaccard", "low", "high", "null", "above"), NAN)
    if weights.shape[2] < 2 or not len(weights) or not (weights @ sums.count > 0).all():
        return nothing
    found, null = [], []
    for some in np.array_split(weights, -(-len(weights) // BATCH)):
        for pair in zip(*(sums.rho(some[:, side]) for side in (0, 1))):
            one, other = (select_top(rho, share) for rho in pair)
            found.append(jaccard(one, other))
            null.append(by_chance(one, other, rng))
    low, high = percentile_interval(np.array(found))
    mean, chance = float(np.mean(found)), float(np.mean(null))
    return {"jaccard": mean, "low": low, "high": high, "null": chance, "above": mean - chance}
