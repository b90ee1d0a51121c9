"""Which neurons count as the top ones: those with the largest scores over all layers together."""

from __future__ import annotations

import math

import numpy as np

from memgen.stats.checks import refuse_not_finite

TOP_SHARE = 0.05  # of all neurons, where the top neurons of two maps or models are compared


def select_top(score: np.ndarray, share: float) -> np.ndarray:
    """Mask [L, d] of the ceil(share * L * d) neurons with the largest |score| over all layers.

    share is the `top_n` of a sweep, in (0, 1]. Ties go to the lower layer, then to the lower index.
    Raises ValueError naming `top_n` for any other share, and for scores that are not finite.
    """
    score = np.asarray(score, dtype=np.float64)
    try:
        share = float(share)
    except (TypeError, ValueError):
        share = math.nan
    if not 0 < share <= 1:  # nan fails, too
        raise ValueError(
            f"top_n must be a share of all neurons, above 0 and at most 1, got {share}"
        )
    refuse_not_finite("score", score)
    n_neurons = math.ceil(round(share * score.size, 9))  # 0.07 * 100 is 7.000000000000001
    return largest(np.abs(score), n_neurons)


def largest(values: np.ndarray, count: int) -> np.ndarray:
    """Mask of the `count` largest values; ties go to the first in memory order."""
    mask = np.zeros(values.size, dtype=bool)
    mask[np.argsort(-values, axis=None, kind="stable")[:count]] = True
    return mask.reshape(values.shape)
