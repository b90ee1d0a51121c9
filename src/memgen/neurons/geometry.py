"""Where a direction lies among hidden states: its angle to others, its principal components, and how far it
leads away from where states are.

Throughout, `states` are those of one layer, `[n, d]`, and a direction is a vector `[d]` of any length. Sums
run in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEAST = 1e-6  # share of the largest variance that any counts for at least
LEVEL = 0.95  # of a null, and of what counts as far out
NEIGHBOURS = 5  # states that a distance to the nearest ones averages over


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Cosine of the angle between two vectors; 0 where one of them is 0."""
    one, other = (np.asarray(v, dtype=np.float64).ravel() for v in (one, other))
    size = np.linalg.norm(one) * np.linalg.norm(other)
    return float(one @ other / size) if size > 0 else 0.0


def unit(vectors: np.ndarray) -> np.ndarray:
    """The same at length 1, over the last axis; 0 stays 0."""
    vectors = np.asarray(vectors, dtype=np.float64)
    size = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, size, out=np.zeros_like(vectors), where=size > 0)


def chance_cosine(
    direction: np.ndarray, spread: Spread, rng: np.random.Generator, n_draws: int
) -> float:
    """The `LEVEL` quantile of |cosine| between a direction and random ones that vary as the states do.

    Coordinates of states hang together, so two directions that follow them are alike by chance more often
    than two of all d dimensions are.
    """
    drawn = rng.normal(size=(n_draws, len(spread.values))) * np.sqrt(spread.values)
    there = unit(spread.axes.T @ np.asarray(direction, dtype=np.float64))
    return float(np.quantile(np.abs(unit(drawn) @ there), LEVEL))


def ceiling(refit: float) -> float:
    """The largest cosine that a noisy direction can have with one that is known exactly.

    `refit`: the cosine of two fits on disjoint halves of the data, noise and nothing else between them. A fit
    on all of it has half of their noise (Spearman and Brown), and its cosine with the truth is the root of
    its reliability. 0 where the halves have nothing in common.
    """
    return float(np.sqrt(2 * refit / (1 + refit))) if refit > 0 else 0.0


@dataclass(frozen=True)
class Spread:
    """How states vary: `mean` `[d]`, principal `axes` `[d, d]` (columns), variances `values` `[d]`, largest
    first.
    """

    mean: np.ndarray
    axes: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, states: np.ndarray) -> Spread:
        """Errors: `ValueError` below two states."""
        states = np.asarray(states, dtype=np.float64)
        if len(states) < 2:
            raise ValueError(f"states vary only where there are two or more, got {len(states)}")
        mean = states.mean(axis=0)
        values, axes = np.linalg.eigh(np.cov(states - mean, rowvar=False))
        return cls(mean, axes[:, ::-1], values[::-1].clip(min=0))

    @property
    def explained(self) -> np.ndarray:
        """Share `[d]` of the variance in the first 1, 2, ... components."""
        total = self.values.sum()
        return np.cumsum(self.values) / total if total > 0 else np.zeros(len(self.values))

    def shares(self, direction: np.ndarray) -> np.ndarray:
        """Share `[d]` of a direction's squared length in the first 1, 2, ... components.

        A direction of all d dimensions drawn at random has k / d in the first k, one that is drawn as the
        states vary has `explained`, in expectation.
        """
        return np.cumsum((unit(direction) @ self.axes) ** 2)


@dataclass(frozen=True)
class Surroundings:
    """Where states are: what says how far out another one lies.

    `known` `[n, d]`: states that nothing was done to; `spread`: theirs, its variances shrunk towards their
    mean by `shrinkage` (Ledoit and Wolf, 2004), so that a direction in which few states were seen to vary is
    not infinitely far.
    """

    known: np.ndarray
    spread: Spread
    shrinkage: float

    @classmethod
    def of(cls, states: np.ndarray) -> Surroundings:
        """Errors: `ValueError` below two states."""
        from sklearn.covariance import ledoit_wolf_shrinkage

        states = np.asarray(states, dtype=np.float64)
        spread = Spread.of(states)
        return cls(states, spread, float(ledoit_wolf_shrinkage(states)))

    def distances(self, states: np.ndarray) -> np.ndarray:
        """Mahalanobis distance `[n]` of states: that of a Gaussian fitted to the known ones."""
        values = self.spread.values
        shrunk = (1 - self.shrinkage) * values + self.shrinkage * values.mean()
        # where no state varies a step leads far, and not infinitely far
        shrunk = np.maximum(shrunk, LEAST * max(shrunk.max(), LEAST))
        along = (np.asarray(states, dtype=np.float64) - self.spread.mean) @ self.spread.axes
        return np.asarray(np.sqrt((along**2 / shrunk).sum(axis=1)))

    def to_nearest(self, states: np.ndarray) -> np.ndarray:
        """Mean distance `[n]` to the `NEIGHBOURS` nearest known states: no shape is taken for granted."""
        states = np.asarray(states, dtype=np.float64)
        k = min(NEIGHBOURS, len(self.known))
        squared = (
            (states**2).sum(axis=1)[:, None]
            - 2 * states @ self.known.T
            + (self.known**2).sum(axis=1)
        )
        nearest = np.partition(squared.clip(min=0), k - 1, axis=1)[:, :k]
        return np.asarray(np.sqrt(nearest).mean(axis=1))


def quantiles_among(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Share `[n]` of the known numbers that each value is above; equal ones count half."""
    known = np.sort(known)
    below = np.searchsorted(known, values, side="left")
    upto = np.searchsorted(known, values, side="right")
    return np.asarray((below + upto) / (2 * len(known)))
