"""What a probe gains from having seen the same keys: random folds against folds of whole keys."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from memgen.neurons.probes import N_FOLDS, Examples
from memgen.phases import phase
from memgen.stats.auc import auc_within
from memgen.stats.columns import columns, interval_pairs, numbers
from memgen.stats.intervals import interval, number

C = 0.1  # inverse strength of the L2 penalty: fixed, so that nothing but the split differs


def compare_splits(train: Examples, seed: int, n_resamples: int) -> tuple[dict, pd.DataFrame]:
    """Cross-validated AUC of one probe by layer, with folds of whole keys and of random prompts.

    Same train prompts, penalty and number of folds; only the split differs. An AUC compares prompts
    of the same fold only (each fold's probe has a zero of its own). The best layer has the highest
    AUC by key. Columns of the table: layer (from 1), by_key, random and leak (their difference),
    each with _low and _high, n, n_keys.
    """
    states, labels, keys = train.states, train.labels, train.keys
    folds = {
        "by_key": fold_numbers(labels, keys, seed, by_key=True),
        "random": fold_numbers(labels, keys, seed, by_key=False),
    }
    rows = []
    for layer in range(states.shape[1]):
        scores = {
            name: held_out_scores(states[:, layer], labels, fold) for name, fold in folds.items()
        }
        arrays = [array for name in folds for array in (scores[name], folds[name])]
        by_key, random = (
            interval(
                auc_within,
                keys,
                labels,
                scores[name],
                folds[name],
                seed=seed,
                n_resamples=n_resamples,
            )
            for name in folds
        )
        leak = interval(_fold_leak, keys, labels, *arrays, seed=seed, n_resamples=n_resamples)
        rows.append(
            {"layer": layer + 1, "n": len(labels), "n_keys": len(np.unique(keys))}
            | columns(by_key=by_key, random=random, leak=leak)
        )
    table = pd.DataFrame(rows)
    best = int(table.by_key.fillna(0).to_numpy().argmax())
    at = table.iloc[best]
    result = {
        "n": len(labels),
        "n_keys": int(at.n_keys),
        "best_layer": best + 1 if np.isfinite(at.by_key) else None,
        "leak": number(at.leak),
        "leak_interval": numbers([at.leak_low, at.leak_high]),
        "by_key_best": number(at.by_key),
        "random_best": number(at.random),
    }
    for name in ("by_key", "random"):
        result |= {name: numbers(table[name]), f"{name}_interval": interval_pairs(table, name)}
    return result, table


def fold_numbers(labels: np.ndarray, keys: np.ndarray, seed: int, by_key: bool) -> np.ndarray:
    """Each prompt's fold `[n]`: of whole keys, or as many at random; -1 for fewer than two keys."""
    n_folds, found = min(N_FOLDS, len(np.unique(keys))), np.full(len(keys), -1)
    if n_folds < 2:
        return found
    split = (GroupKFold if by_key else KFold)(n_folds, shuffle=True, random_state=seed)
    for fold, (_, held) in enumerate(split.split(labels, groups=keys if by_key else None)):
        found[held] = fold
    return found


def held_out_scores(x: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Log odds `[n]` for x `[n, d]` by fits to the other folds; nan where these show one class."""
    scores = np.full(len(labels), np.nan)
    for fold in np.unique(folds[folds >= 0]):
        held = folds == fold
        if len(np.unique(labels[~held])) == 2:
            model = make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=2000))
            with phase("probes"):
                model.fit(x[~held].astype(np.float64), labels[~held])
            scores[held] = model.decision_function(x[held].astype(np.float64))
    return scores


def _fold_leak(labels, key_scores, key_folds, random_scores, random_folds, weights):
    return auc_within(labels, random_scores, random_folds, weights) - auc_within(
        labels, key_scores, key_folds, weights
    )
