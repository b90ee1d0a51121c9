"""Which of two prompts looks more like one that is answered by the rule: from its tokens alone."""

from __future__ import annotations

import numpy as np

from memgen.neurons.probes import probe_scores
from memgen.neurons.prompt_features import one_hot

N_FOLDS = 5


def rule_likeness(
    fit: tuple[np.ndarray, np.ndarray, np.ndarray],
    asked: tuple[np.ndarray, np.ndarray],
    *,
    seed: int,
) -> np.ndarray:
    """Log odds [m] that a prompt is answered by the rule, by which token stands where; no model.

    fit: tokens [n, T], labels [n] (1: rule) and keys [n] of answered prompts; asked: tokens [m, T]
    and keys [m]. Cross-fitted: the logistic regression that scores a prompt has seen no
    prompt of its key. 0 where no other key is left to fit on.
    """
    (tokens, labels, keys), (new, of) = fit, asked
    names = np.unique(np.concatenate([keys, of]))
    fold = dict(zip(np.random.default_rng(seed).permutation(names), np.arange(len(names))))
    fit_fold, asked_fold = (
        np.array([fold[key] % N_FOLDS for key in one], dtype=int) for one in (keys, of)
    )
    scores = np.zeros(len(of))
    for held in np.unique(asked_fold):
        rows, mine = fit_fold != held, asked_fold == held
        if rows.any():
            scores[mine] = np.nan_to_num(
                _by_tokens(tokens[rows], labels[rows], keys[rows], new[mine], seed),
                posinf=0,
                neginf=0,
            )
    return scores


def _by_tokens(
    tokens: np.ndarray, labels: np.ndarray, keys: np.ndarray, new: np.ndarray, seed: int
) -> np.ndarray:
    train, asked = one_hot(tokens, new)
    return probe_scores(train, labels, keys, asked, seed=seed, standardise=False)
