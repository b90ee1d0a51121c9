"""What a probe of hidden states has to beat: the majority, the words alone, shuffled labels, the margin."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from memgen.neurons.probes import Examples, checked_sets, fit_probe, probe_scores, scored
from memgen.stats.auc import best_threshold, roc_auc


def prompt_scores(
    train_tokens: np.ndarray,
    train_labels: np.ndarray,
    train_keys: np.ndarray,
    test_tokens: np.ndarray,
    *,
    seed: int,
) -> np.ndarray:
    """`prompt_only`: log odds of generalization [m] by which token stands where, [n, T], [m, T]."""
    train, test = _one_hot(train_tokens, test_tokens)
    return probe_scores(train, train_labels, train_keys, test, seed=seed, standardise=False)


def baselines(
    train: Examples,
    test: Examples,
    prompt_only: np.ndarray,
    *,
    seed: int,
    n_shuffles: int = 5,
    n_resamples: int = 1000,
) -> pd.DataFrame:
    """What a probe has to beat, on the same rows, as a table with one row per name:

    - majority: the train set's more frequent behaviour, always;
    - shuffled_labels: the probe on the states [n, d] of one layer, refitted `n_shuffles` times to
      permuted train labels. Its scores are means over the shuffles, its intervals the spread of a
      single one (shuffle and test keys);
    - prompt_only: log odds [n] of the test prompts from their tokens alone (`prompt_scores`);
    - one row per entry of `scores` (`answer_margin` and `entropy`, say: the model's own next-token
      statistics). Orientation (is high rule or memory?) and threshold come from train.

    Columns: name, accuracy, accuracy_low, accuracy_high, auc, auc_low, auc_high, n, n_keys. One
    class in train or test is treated as in `probe_by_layer`; so are errors.
    """
    train, test = checked_sets(train, test, ndim=2)
    if set(train.scores) != set(test.scores):
        raise ValueError(
            f"scores of train and test differ: {sorted(train.scores)} and {sorted(test.scores)}"
        )
    rows = []

    def add(name: str, scores: np.ndarray, answers: np.ndarray) -> None:
        rows.append({"name": name} | scored(test, scores, answers, seed, n_resamples))

    always = np.full((1, len(test.labels)), train.labels.mean() >= 0.5)
    add("majority", always.astype(float), always)

    rng = np.random.default_rng(seed)
    shuffled = np.empty((n_shuffles, len(test.labels)))
    for i in range(n_shuffles):
        probe = fit_probe(replace(train, labels=rng.permutation(train.labels)), seed)
        shuffled[i] = probe.log_odds(test.states)
    add("shuffled_labels", shuffled, shuffled > 0)

    scores = np.asarray(prompt_only)[None]
    add("prompt_only", scores, scores > 0)

    for name, of_train in train.scores.items():
        train_auc = roc_auc(train.labels, of_train)
        sign = -1.0 if train_auc < 0.5 else 1.0
        known = np.isfinite(train_auc)
        scores = sign * test.scores[name][None] if known else np.where(always, np.inf, -np.inf)
        add(name, scores, scores > best_threshold(train.labels, sign * of_train))
    return pd.DataFrame(rows)


def _one_hot(train_tokens: np.ndarray, test_tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A column per position and token of train, [n, columns]; a token new in test is all zeros."""
    vocabulary = [np.unique(column) for column in train_tokens.T]
    train, test = (
        np.hstack(
            [tokens[:, [position]] == seen for position, seen in enumerate(vocabulary)]
        ).astype(np.float64)
        for tokens in (train_tokens, test_tokens)
    )
    return train, test
