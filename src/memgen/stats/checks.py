"""Which neurons differ between memorization and generalization: differences, correlations, tests,
shifts.

Arrays in, arrays out. Throughout, `memory` and `rule` are hidden states [n, L, d] of n pairs at L
layers of width d: row i of `memory` comes from a prompt answered from memory, row i of `rule` from
a prompt of the same key answered by the rule. A neuron is one coordinate (layer, index) of the
hidden state. Everything that is positive drives towards generalization. Sums run in float64, so
float32 states lose nothing on the way.
"""

from __future__ import annotations

import numpy as np


def refuse_not_finite(name: str, *arrays: np.ndarray) -> None:
    # Every comparison with nan is false, so a nan would pass through the tests as a significant
    # neuron.
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError(f"{name} must be finite, but hold nan or inf")
