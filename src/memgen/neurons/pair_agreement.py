"""What the train pairs alone say about steering: do their differences point one way, do they separate?

Sources: Braun et al. (2025), Understanding (un)reliability of steering vectors in language models; Tan et
al. (2024), Analyzing the generalization and reliability of steering vectors.
"""

from __future__ import annotations

import numpy as np

from memgen.neurons.probes import key_folds
from memgen.stats.intervals import NAN

SMALL = 1e-9  # of a length: below it lies rounding


def mean_cosine(differences: np.ndarray, keys: np.ndarray) -> float:
    """Mean cosine between differences `[n, d]` of pairs of *different* keys `[n]`.

    Pairs of one key share a prompt, so they agree anyway. nan with fewer than two keys.
    """
    lengths = np.linalg.norm(differences, axis=1)
    known = lengths > SMALL
    units = differences[known].astype(np.float64) / lengths[known, None]
    _, of_pair = np.unique(np.asarray(keys)[known], return_inverse=True)
    if not len(of_pair) or of_pair.max() < 1:
        return NAN
    member = np.eye(of_pair.max() + 1)[of_pair]
    within = ((member.T @ units) ** 2).sum()
    pairs = len(units) ** 2 - (member.sum(0) ** 2).sum()
    return float(((units.sum(0) ** 2).sum() - within) / pairs)


def separation(memory: np.ndarray, rule: np.ndarray, keys: np.ndarray, seed: int) -> float:
    """d': distance of both sides' means along the mean difference, in standard deviations of a side.

    memory, rule: `[n, d]`. Pairs are projected on the mean difference of other keys than their own
    (folds of whole keys): along its own mean every cloud of noise is separated. nan without folds.
    """
    sides = [np.asarray(side, dtype=np.float64) for side in (memory, rule)]
    rows = np.arange(len(keys))
    labels, both = np.repeat([0, 1], len(rows)), np.tile(keys, 2)
    found = []
    for fit, held in key_folds(labels, both, seed):
        used, told = (np.unique(part % max(len(rows), 1)) for part in (fit, held))
        direction = sides[1][used].mean(0) - sides[0][used].mean(0)
        length = np.linalg.norm(direction)
        if length < SMALL or len(told) < 2:
            continue
        low, high = (side[told] @ direction / length for side in sides)
        spread = np.sqrt((low.var(ddof=1) + high.var(ddof=1)) / 2)
        if spread > SMALL:
            found.append((high.mean() - low.mean()) / spread)
    return float(np.mean(found)) if found else NAN
