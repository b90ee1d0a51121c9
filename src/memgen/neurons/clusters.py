"""Which neurons act together: co-activation within a behaviour, and clusters by it."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform


def top_neurons(nmd: np.ndarray, rho: np.ndarray, n: int) -> np.ndarray:
    """The `n` neurons that differ with the largest |rho|, best first: `[n, 2]` (layer, index)."""
    score = np.where(nmd != 0, np.abs(rho), 0)
    order = np.argsort(-score, axis=None, kind="stable")[: min(n, int((score > 0).sum()))]
    return np.stack(np.unravel_index(order, rho.shape), axis=1)


def coactivation(memory: np.ndarray, rule: np.ndarray, neurons: np.ndarray) -> np.ndarray:
    """Correlation `[n, n]` of neurons over prompts `[pairs, L, d]`, within behaviour.

    Without the behaviours' means: what tells them apart does not count. A constant neuron gets 0.
    """
    layer, index = neurons.T
    states = np.concatenate(
        [
            part[:, layer, index].astype(np.float64)
            - part[:, layer, index].mean(0, dtype=np.float64)
            for part in (memory, rule)
        ]
    )
    norm = np.linalg.norm(states, axis=0)
    states = np.divide(states, norm, out=np.zeros_like(states), where=norm > 0)
    found = states.T @ states
    np.fill_diagonal(found, 1.0)
    return found.clip(-1, 1)


def cluster(correlations: np.ndarray, n_clusters: int) -> np.ndarray:
    """Average-linkage clusters by 1 - |correlation|: labels `[n]` from 0, in the neurons' order."""
    if len(correlations) < 2:
        return np.zeros(len(correlations), dtype=int)
    distance = 1 - np.abs(correlations)
    np.fill_diagonal(distance, 0)
    labels = fcluster(
        linkage(squareform(distance, checks=False), "average"), n_clusters, "maxclust"
    )
    return pd.factorize(labels)[0]


def by_cluster(correlations: np.ndarray, labels: np.ndarray) -> dict:
    """Mean |correlation| of two neurons within a cluster and between clusters (None: no pairs)."""
    same = labels[:, None] == labels
    different, size = ~same, np.abs(correlations)
    np.fill_diagonal(same, False)
    return {
        name: float(size[mask].mean()) if mask.any() else None
        for name, mask in (("within", same), ("between", different))
    }
