"""Detectors that look inside: the probe of lab 05, and the projection on a difference of means."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from memgen.neurons.probes import Examples, auc_within_folds, key_folds
from memgen.rivals.detectors.detector import Found, strongest


def fitted_probe(
    arrays: Mapping[str, np.ndarray], layer: int, cv_auc: float, states: np.ndarray
) -> Found:
    """A probe that is there already: `weight` `[L, d]`, `bias` `[L]`; layer from 1; states `[m, L, d]`."""
    at = layer - 1
    scores = states[:, at].astype(np.float64) @ arrays["weight"][at] + arrays["bias"][at]
    return Found(scores, cv_auc, f"layer {layer}")


def projection(train: Examples, test: np.ndarray, seed: int) -> Found:
    """`h . u`, u the unit vector from the mean state of memory to that of the rule, in one layer.

    train: states `[n, L, d]`; test: `[m, L, d]`. The layer has the highest AUC on train keys that the
    difference was not made of. Source: Hong et al. (2025), LiReF: direction and projection.
    """
    found = {}
    for layer in range(train.states.shape[1]):
        x = train.states[:, layer].astype(np.float64)
        held_out = np.full(len(x), np.nan)
        for fit, held in key_folds(train.labels, train.keys, seed):
            held_out[held] = x[held] @ unit_difference(x[fit], train.labels[fit])
        auc = auc_within_folds(train.labels, held_out, train.keys, seed)
        scores = test[:, layer].astype(np.float64) @ unit_difference(x, train.labels)
        found[f"layer {layer + 1}"] = Found(scores, auc)
    return strongest(found)


def unit_difference(states: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mean state `[n, d]` of label 1 less that of label 0, at length 1; zeros where one is missing."""
    if len(np.unique(labels)) < 2:
        return np.zeros(states.shape[1])
    difference = states[labels == 1].mean(axis=0) - states[labels == 0].mean(axis=0)
    length = np.linalg.norm(difference)
    unit: np.ndarray = difference / length if length else difference
    return unit
