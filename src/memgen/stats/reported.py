"""Open points of the reviewers: clusters and synergy, whether the flip is binary, why the
directions differ, an instruction instead, hybrid prompts.

The cell of each direction is the one that lab 06 chose on validation keys; nothing is chosen here,
and everything that is reported comes from test keys. The *margin* is log p(first token of the
rule's answer) - log p(first token of the memory's) at the decision position: positive leans to the
rule. Prompts whose two answers begin with the same token have none and are left out wherever it is
used.
"""

from __future__ import annotations

import numpy as np

from memgen.stats.intervals import bootstrap_by_key, number, wilson


def rate(hits: np.ndarray, name: str = "share") -> dict:
    """Share of true entries, Wilson's interval and n; None without any."""
    hits = np.asarray(hits).ravel()
    n = len(hits)
    return {
        name: float(hits.mean()) if n else None,
        "interval": list(wilson(int(hits.sum()), n)) if n else None,
        "n": n,
    }


def by_key(statistic, keys: np.ndarray, *arrays: np.ndarray, seed: int) -> dict:
    """`value`, bootstrap `interval` over keys, `n` and `n_keys` of a weighted statistic (as in
    `bootstrap_by_key`); None where undefined.
    """
    if not len(keys):
        return {"value": None, "interval": None, "n": 0, "n_keys": 0}
    found = bootstrap_by_key(statistic, keys, *arrays, seed=seed, weighted=True)
    interval = [number(found.low), number(found.high)]
    return {
        "value": number(found.estimate),
        "interval": None if None in interval else interval,
        "n": len(keys),
        "n_keys": found.n_keys,
    }
