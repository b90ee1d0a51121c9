"""Refusing numbers that would pass through a test unseen."""

from __future__ import annotations

import numpy as np


def refuse_not_finite(name: str, *arrays: np.ndarray) -> None:
    """ValueError if an array holds nan or inf: a nan would pass tests as a significant neuron."""
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError(f"{name} must be finite, but hold nan or inf")
