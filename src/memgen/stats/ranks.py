"""Spearman's rank correlation, and how often chance would give as much: by dealing whole groups anew."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from math import factorial

import numpy as np
from scipy.stats import rankdata

from memgen.stats.intervals import NAN

FEWEST = (
    4  # pairs below which a rank correlation says nothing: three are in order by chance in a sixth
)


def spearman(one: Sequence[float], other: Sequence[float], fewest: int = FEWEST) -> float:
    """Spearman's rank correlation of two columns `[n]`; ties get their mean rank.

    nan for fewer than `fewest` pairs, and where a column is constant.
    """
    x, y = (rankdata(np.asarray(column, dtype=float)) for column in (one, other))
    if len(x) < fewest or np.ptp(x) == 0 or np.ptp(y) == 0:
        return NAN
    return float(np.corrcoef(x, y)[0, 1])


def dealt_anew(
    one: np.ndarray, other: np.ndarray, groups: np.ndarray, most: int, seed: int
) -> dict[str, float]:
    """`value`: Spearman over the groups' means; `p`: share of deals of `one` with as large a one (one-sided).

    Rows of a group (a task) resemble each other, so groups are what is counted: their mean of `one` is
    dealt to the groups anew, in every order where there are at most `most`, else in `most` random ones.
    The order that is there counts as a deal, so p is never 0. Source: Phipson & Smyth (2010).
    """
    names = np.unique(groups)
    means = np.array([[column[groups == name].mean() for name in names] for column in (one, other)])
    value = spearman(*means)
    if np.isnan(value):
        return {"value": NAN, "p": NAN}
    n = len(names)
    if factorial(n) <= most:
        orders = np.array(list(permutations(range(n))))
    else:
        rng = np.random.default_rng(seed)
        orders = np.array([np.arange(n), *(rng.permutation(n) for _ in range(most))])
    x, y = (ranks - ranks.mean() for ranks in map(rankdata, means))
    found = x[orders] @ y / np.sqrt((x @ x) * (y @ y))  # the ranks of a deal are the ranks dealt
    return {"value": value, "p": float((found >= value - 1e-12).mean())}
