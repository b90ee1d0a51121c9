"""Candidates that add a vector: at one layer or at all, at every position or from the decision on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from memgen.rivals.interventions import Shift
from memgen.rivals.material import STATES
from memgen.rivals.method import Candidate
from memgen.terms import Positions


def at_layer(vector: np.ndarray, layer: int, n_layer: int) -> np.ndarray:
    """`[L, d]`: the vector at one layer (from 0), nothing at the others."""
    found = np.zeros((n_layer, len(vector)))
    found[layer] = vector
    return found


def added(
    delta: np.ndarray,
    setting: Mapping[str, float | int | str],
    positions: Positions,
    gradient_steps: int = 0,
) -> Candidate:
    """A (signed) shift `[L, d]` of the residual stream; the label says its setting and its positions."""
    said = [
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in setting.items()
    ]
    return Candidate(
        ", ".join([*said, positions]),
        {**setting, "positions": positions},
        float(np.linalg.norm(delta)),
        Shift(delta, positions, STATES),
        gradient_steps,
    )


def layer_by_layer(
    vectors: np.ndarray,
    layers: Iterable[int],
    multipliers: Iterable[float],
    tried: Sequence[Positions],
) -> list[Candidate]:
    """Each layer's own (signed) vector `[L, d]` alone, times each multiplier, at each of these positions."""
    return [
        added(
            at_layer(times * vectors[layer], layer, len(vectors)),
            {"layer": layer + 1, "times": float(times)},
            positions,
        )
        for layer in layers
        for times in multipliers
        for positions in tried
    ]


def all_layers(
    vectors: np.ndarray, multipliers: Iterable[float], tried: Sequence[Positions]
) -> list[Candidate]:
    """The (signed) vectors `[L, d]` of all layers at once, times each multiplier, at these positions."""
    return [
        added(times * vectors, {"times": float(times)}, positions)
        for times in multipliers
        for positions in tried
    ]
