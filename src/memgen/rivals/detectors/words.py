"""Detectors that see the prompt and no model: which token stands where, alone and in pairs."""

from __future__ import annotations

import numpy as np

from memgen.neurons.probes import Examples, fit_probe
from memgen.neurons.prompt_features import PromptFeatures, one_hot, role_matrix
from memgen.rivals.detectors.detector import Found

SMALL = 1e-9  # of the largest eigenvalue: below it lies rounding


def prompt_only(
    train: PromptFeatures, test: PromptFeatures, labels: np.ndarray, keys: np.ndarray, seed: int
) -> Found:
    """Logistic in which token stands where, as in lab 05; labels, keys `[n]` are of train."""
    return _logistic(one_hot(train.tokens, test.tokens), labels, keys, seed)


def prompt_interactions(
    train: PromptFeatures, test: PromptFeatures, labels: np.ndarray, keys: np.ndarray, seed: int
) -> Found:
    """Logistic in tokens by place, what holds which place (`Task.roles`), and all pairs of these."""
    parts = (one_hot(train.tokens, test.tokens), role_matrix(train.roles, test.roles))
    old, new = (np.hstack([part[side] for part in parts]) for side in range(2))
    return _logistic(pairwise(old, new), labels, keys, seed)


def pairwise(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns whose inner products are `(1 + x . y)^2`: x `[n, d]`, all pairs of its columns, and 1.

    A penalised logistic regression sees inner products alone, so `n` columns do the work of `d^2`. x is
    scaled to a mean squared length of 1 over train `[n, d]`; test: `[m, d]`.
    """
    scale = np.sqrt((train**2).sum(axis=1).mean()) or 1.0
    old, new = train / scale, test / scale
    values, vectors = np.linalg.eigh((1 + old @ old.T) ** 2)
    kept = values > SMALL * values[-1]
    roots, vectors = np.sqrt(values[kept]), vectors[:, kept]
    return vectors * roots, (1 + new @ old.T) ** 2 @ vectors / roots


def _logistic(
    features: tuple[np.ndarray, np.ndarray], labels: np.ndarray, keys: np.ndarray, seed: int
) -> Found:
    old, new = features
    probe = fit_probe(Examples(old, labels, keys), seed, standardise=False)
    return Found(probe.log_odds(new), probe.cv_auc)
