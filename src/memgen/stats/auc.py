"""The area under the ROC curve, weighted for a bootstrap, also within groups, and a best threshold."""

from __future__ import annotations

from typing import Literal

import numpy as np

CHANCE = 0.5  # the area of a coin
SIDES: tuple[Literal["left", "right"], ...] = ("left", "right")


def roc_auc(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
) -> float | np.ndarray:
    """Area under the ROC curve: how often a generalization scores above a memorization (tie: half).

    labels: [n] 0/1; scores: [n]. With `weights` [B, n] (how often a resample drew each row) the
    result is [B]. nan where a class is missing or scores are not finite.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=float)
    w = np.ones((1, len(labels))) if weights is None else np.asarray(weights, dtype=float)
    if len(labels) == 0 or not np.isfinite(scores).all():
        auc = np.full(len(w), np.nan)
    else:
        order = np.argsort(scores, kind="stable")
        rule, memory = (order[labels[order] == label] for label in (1, 0))
        positive = w[:, rule]
        below = np.zeros((len(w), len(memory) + 1))  # weight of the k lowest memories
        np.cumsum(w[:, memory], axis=1, out=below[:, 1:])
        # a tie counts one half: the mean of with and without those of the same score
        first, last = (np.searchsorted(scores[memory], scores[rule], side) for side in SIDES)
        concordant = (positive * (below[:, first] + below[:, last])).sum(axis=1) / 2
        all_pairs = positive.sum(axis=1) * below[:, -1]
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
