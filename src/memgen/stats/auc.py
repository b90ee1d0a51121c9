"""The area under the ROC curve, weighted for a bootstrap, also within groups, and a best threshold."""

from __future__ import annotations

import numpy as np


def roc_auc(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
) -> float | np.ndarray:
    """Area under the ROC curve: how often a generalization scores above a memorization (tie: half).

    labels: [n] 0/1; scores: [n]. With `weights` [B, n] (how often a resample drew each row) the
    result is [B]. nan where a class is missing or scores are not finite.
    """
    labels, scores = np.asarray(labels, dtype=float), np.asarray(scores, dtype=float)
    w = np.ones((1, len(labels))) if weights is None else np.asarray(weights, dtype=float)
    if len(labels) == 0 or not np.isfinite(scores).all():
        auc = np.full(len(w), np.nan)
    else:
        order = np.argsort(scores, kind="stable")
        labels, scores, w = labels[order], scores[order], w[:, order]
        first_of_score = np.concatenate([[True], scores[1:] != scores[:-1]])
        ties = np.flatnonzero(first_of_score)
        positive = np.add.reduceat(w * labels, ties, axis=1)  # [B, different scores]
        negative = np.add.reduceat(w * (1 - labels), ties, axis=1)
        negative_below = np.cumsum(negative, axis=1) - negative
        concordant = (positive * (negative_below + negative / 2)).sum(axis=1)
        all_pairs = positive.sum(axis=1) * negative.sum(axis=1)
        auc = np.divide(concordant, all_pairs, out=np.full(len(w), np.nan), where=all_pairs > 0)
    return float(auc[0]) if weights is None else auc


def auc_within(
    labels: np.ndarray, scores: np.ndarray, groups: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """The same, [B], comparing two prompts only where they are in the same one of the groups [n].

    Every pair of prompts counts once. nan where no group holds both behaviours; rows whose score is
    not finite are left out.
    """
    labels, scores, groups = np.asarray(labels), np.asarray(scores), np.asarray(groups)
    finite = np.isfinite(scores)
    concordant, possible = np.zeros((2, len(weights)))
    for group in np.unique(groups[finite]):
        rows = finite & (groups == group)
        n_pairs = (weights[:, rows] @ labels[rows]) * (weights[:, rows] @ (1 - labels[rows]))
        concordant += np.nan_to_num(roc_auc(labels[rows], scores[rows], weights[:, rows])) * n_pairs
        possible += n_pairs
    found = np.full(len(weights), np.nan)
    np.divide(concordant, possible, out=found, where=possible > 0)
    return found


def best_threshold(labels: np.ndarray, scores: np.ndarray) -> float:
    """The lowest threshold t for which `scores > t` agrees most often with the labels [n].

    It lies midway between two scores, or is an infinity where one answer throughout is best.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=float)
    values = np.unique(scores)
    cuts = np.concatenate([[-np.inf], (values[1:] + values[:-1]) / 2, [np.inf]])
    negatives_below = np.searchsorted(np.sort(scores[labels == 0]), cuts, side="right")
    positives_below = np.searchsorted(np.sort(scores[labels == 1]), cuts, side="right")
    return float(cuts[np.argmax(negatives_below - positives_below)])
