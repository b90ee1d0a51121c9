"""Can the behaviour be predicted before the answer is written? Linear probes on hidden states.

Labels are 1 = generalization, 0 = memorization; the caller drops "other". Keys name what each
prompt was built from. All that is fitted or chosen (weights, C, orientation, threshold) uses train
keys only; a key on both sides is refused. Intervals are a bootstrap over test keys with the probe
held fixed: how far a score depends on these keys, not on training probe and model again (as seeds
show).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import StandardScaler

from memgen.phases import phase
from memgen.stats.auc import auc_within, roc_auc
from memgen.stats.checks import refuse_not_finite
from memgen.stats.intervals import NAN, bootstrap_by_key

C_GRID = (0.001, 0.01, 0.1, 1.0, 10.0)  # inverse strength of the L2 penalty
N_FOLDS = 5


@dataclass(frozen=True)
class Examples:
    """Prompts of one split with their labels: what a probe is fitted on or scored on.

    states: [n, L, d], or [n, d] of one layer; labels (1 = generalization, 0 = memorization), keys:
    [n]; scores: [n] each by name, single numbers per prompt such as the model's own margin.
    """

    states: np.ndarray
    labels: np.ndarray
    keys: np.ndarray
    scores: Mapping[str, np.ndarray] = field(default_factory=dict)

    def at(self, layer: int) -> Examples:
        """The same prompts with the states of one layer (from 0)."""
        return replace(self, states=self.states[:, layer])


def probe_by_layer(
    train: Examples,
    test: Examples,
    *,
    seed: int,
    n_resamples: int = 1000,
    probes: Sequence[Probe] | None = None,
) -> pd.DataFrame:
    """A standardised, L2-penalised logistic regression per layer: train keys fit, test keys score.

    C is the value of `C_GRID` with the lowest log loss over folds of train keys. `probes`: what
    `fit_probes` made of the same train set, where it was called before. Columns: layer, accuracy,
    accuracy_low, accuracy_high, auc, auc_low, auc_high, n_test, n_test_keys, n_train, c, cv_auc,
    positive_share (of the test labels).

    `cv_auc` is the AUC within those folds. Choose a best layer by it: choosing by `auc` would choose
    on test keys. A train set of one class teaches nothing: the constant answer has an accuracy, its
    AUC is nan. A test set of one class has AUC nan, an empty one accuracy nan, too. So a tiny run
    goes through, and shows its n. Raises ValueError for a key in both sets, for labels other than 0
    and 1, and for rows that do not match.
    """
    train, test = checked_sets(train, test, ndim=3)
    rows = []
    for layer, probe in enumerate(probes or fit_probes(train, seed=seed)):
        scores = probe.log_odds(test.states[:, layer])[None]
        row = {"layer": layer} | scored(test, scores, scores > 0, seed, n_resamples)
        rows.append(row | {"n_train": len(train.labels), "c": probe.c, "cv_auc": probe.cv_auc})
    table = pd.DataFrame(rows).rename(columns={"n": "n_test", "n_keys": "n_test_keys"})
    table["positive_share"] = float(test.labels.mean()) if len(test.labels) else NAN
    return table


def fit_probes(train: Examples, *, seed: int) -> list[Probe]:
    """The probe of every layer, fitted to train states [n, L, d]."""
    return [fit_probe(train.at(layer), seed) for layer in range(train.states.shape[1])]


def probe_arrays(probes: Sequence[Probe], width: int) -> dict[str, np.ndarray]:
    """`weight` [L, d], `bias` [L] (float64): log odds at l = states [n, d] @ weight[l] + bias[l].

    The standardisation is folded in. A probe that saw one class: weights of 0, an infinite bias.
    """
    lines = [probe.line(width) for probe in probes]
    return {
        "weight": np.stack([weight for weight, _ in lines]),
        "bias": np.array([bias for _, bias in lines]),
    }


def probe_scores(
    train: np.ndarray,
    train_labels: np.ndarray,
    train_keys: np.ndarray,
    test: np.ndarray,
    *,
    seed: int,
    standardise: bool = True,
) -> np.ndarray:
    """Log odds of generalization [m] for test [m, d], from `probe_by_layer`'s fit to train."""
    return fit_probe(Examples(train, train_labels, train_keys), seed, standardise).log_odds(test)


def scored(
    test: Examples, scores: np.ndarray, answers: np.ndarray, seed: int, n_resamples: int
) -> dict:
    """Accuracy of `answers`, AUC of `scores`, [draws, n], with intervals and what they rest on."""
    columns = ("accuracy", "accuracy_low", "accuracy_high", "auc", "auc_low", "auc_high")
    n_keys = len(np.unique(test.keys))
    row = dict.fromkeys(columns, NAN) | {"n": len(test.labels), "n_keys": n_keys}
    if len(test.labels) == 0:
        return row
    correct = answers == (test.labels == 1)

    def accuracy(correct_rows, weights):  # rows first, as bootstrap_by_key passes them: [n, draws]
        return weights @ correct_rows / weights.sum(axis=1, keepdims=True)

    def auc(score_rows, labels, weights):
        return np.stack([roc_auc(labels, draw, weights) for draw in score_rows.T], axis=1)

    drawing = {"seed": seed, "n_resamples": n_resamples, "weighted": True}
    for name, found in (
        ("accuracy", bootstrap_by_key(accuracy, test.keys, correct.T, **drawing)),
        ("auc", bootstrap_by_key(auc, test.keys, scores.T, test.labels, **drawing)),
    ):
        row |= {name: found.estimate, f"{name}_low": found.low, f"{name}_high": found.high}
    return row


class Probe(NamedTuple):
    """A fitted logistic regression; without a model where train held one class, `constant`, only."""

    model: LogisticRegression | None
    scaler: StandardScaler | None
    constant: int | None
    c: float
    cv_auc: float

    def log_odds(self, x: np.ndarray) -> np.ndarray:
        """Log odds of generalization [n] for x [n, d]; infinite where nothing else was ever seen."""
        if self.model is None:
            return np.full(len(x), np.inf if self.constant == 1 else -np.inf)
        if len(x) == 0:
            return np.empty(0)
        return self.model.decision_function(self.scaler.transform(x) if self.scaler else x)

    def line(self, width: int) -> tuple[np.ndarray, float]:
        """Weights [width] and bias of the same log odds for x as it is, not standardised."""
        if self.model is None:
            return np.zeros(width), float("inf") if self.constant == 1 else float("-inf")
        weight, bias = self.model.coef_[0].astype(np.float64), float(self.model.intercept_[0])
        if self.scaler:
            weight = weight / self.scaler.scale_
            bias -= float(weight @ self.scaler.mean_)
        return weight, bias


def fit_probe(train: Examples, seed: int, standardise: bool = True) -> Probe:
    """Choose C by log loss over folds of keys, then fit on all of the states [n, d]."""
    x, labels, keys = train.states, np.asarray(train.labels), np.asarray(train.keys)
    classes = np.unique(labels)
    if len(classes) == 1:
        return Probe(None, None, int(classes[0]), NAN, NAN)
    # log odds of every row while its key was left out
    held_out = np.full((len(C_GRID), len(labels)), np.nan)
    for fit_rows, held_rows in key_folds(labels, keys, seed):
        for i, probe in enumerate(_path(x[fit_rows], labels[fit_rows], C_GRID, standardise)):
            held_out[i, held_rows] = probe.log_odds(x[held_rows])

    rows = ~np.isnan(held_out[0])
    if not rows.any():  # one key, or no fold with both classes: nothing to choose by
        return next(_path(x, labels, C_GRID[len(C_GRID) // 2 :], standardise))
    wrong_way = np.where(labels[rows] == 1, -1.0, 1.0)
    log_loss = np.logaddexp(0, wrong_way * held_out[:, rows]).mean(axis=1)
    best = int(np.argmin(log_loss))
    probe = next(_path(x, labels, C_GRID[best:], standardise))
    return probe._replace(cv_auc=auc_within_folds(labels, held_out[best], keys, seed))


def _path(
    x: np.ndarray, labels: np.ndarray, grid: Sequence[float], standardise: bool
) -> Iterator[Probe]:
    """Fits for every C, strongest penalty first; each starts from the last (several times faster).

    The yielded probes share one model: use each before asking for the next.
    """
    x = x.astype(np.float64, copy=False)
    with phase("probes"):
        scaler = StandardScaler().fit(x) if standardise else None
        x = scaler.transform(x) if scaler else x
    model = LogisticRegression(max_iter=2000, warm_start=True)
    for c in grid:
        with phase("probes"):
            model.set_params(C=c).fit(x, labels)
        yield Probe(model, scaler, None, float(c), NAN)


def key_folds(
    labels: np.ndarray, keys: np.ndarray, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows (fit, held out) of up to N_FOLDS folds of whole keys; none leaves one class to fit."""
    n_keys = len(np.unique(keys))
    if n_keys < 2:
        return
    split = GroupKFold(min(N_FOLDS, n_keys), shuffle=True, random_state=seed).split
    for fit, held in split(labels, labels, keys):
        if len(np.unique(labels[fit])) == 2:
            yield fit, held


def auc_within_folds(labels: np.ndarray, scores: np.ndarray, keys: np.ndarray, seed: int) -> float:
    """AUC of held-out scores [n], prompts of one fold of `key_folds` compared; nan without folds.

    Each fold's fit has a zero of its own: compared across folds, what was learned from the others'
    share of rule answers would count against every fit.
    """
    folds = np.full(len(labels), -1)
    for number, (_, held) in enumerate(key_folds(labels, keys, seed)):
        folds[held] = number
    rows = folds >= 0
    once = np.ones((1, int(rows.sum())))
    return float(auc_within(labels[rows], scores[rows], folds[rows], once)[0])


def refuse_shared_keys(train_keys: np.ndarray, test_keys: np.ndarray) -> None:
    """Raises ValueError, naming one, if any key is in both sets."""
    shared = set(np.asarray(train_keys).tolist()) & set(np.asarray(test_keys).tolist())
    if shared:
        example = min(shared, key=str)
        raise ValueError(
            f"{len(shared)} keys are in both train and test, for example {example!r}: split by key"
            " first"
        )


def checked_sets(train: Examples, test: Examples, ndim: int) -> tuple[Examples, Examples]:
    """Both as arrays, their states of `ndim` dimensions; raises ValueError as `probe_by_layer` says."""
    checked = []
    for name, one in (("train", train), ("test", test)):
        labels, keys = np.asarray(one.labels), np.asarray(one.keys)
        if labels.ndim != 1 or keys.shape != labels.shape:
            raise ValueError(
                f"{name}: labels and keys must both be [n], got {labels.shape} and {keys.shape}"
            )
        if not np.isin(labels, (0, 1)).all():
            raise ValueError(
                f"{name}: labels must be 0 (memorization) or 1 (generalization); drop 'other' first"
            )
        states = _features(f"{name}_states", one.states, len(labels), ndim)
        scores = {
            score: _features(f"{name}_scores[{score!r}]", values, len(labels), ndim=1)
            for score, values in one.scores.items()
        }
        checked.append(Examples(states, labels.astype(int), keys, scores))
    if len(checked[0].labels) == 0:
        raise ValueError("train: there are no prompts to fit a probe on")
    refuse_shared_keys(train.keys, test.keys)
    return checked[0], checked[1]


def _features(name: str, array: np.ndarray, n: int, ndim: int) -> np.ndarray:
    array = np.asarray(array)
    if array.ndim != ndim or len(array) != n:
        raise ValueError(f"{name}: {ndim} dimensions and {n} rows needed, got shape {array.shape}")
    refuse_not_finite(name, array)
    return array


def probe_weights(memory: np.ndarray, rule: np.ndarray, keys: np.ndarray, seed: int) -> np.ndarray:
    """Weights `[L, d]` in units of the states, of a probe per layer of train pairs `[n, L, d]`."""
    labels, keys = np.repeat([0, 1], len(memory)), np.tile(keys, 2)
    n_layer, width = memory.shape[1:]
    # the log odds are a straight line: a step along a neuron adds its weight
    ends = np.concatenate([np.zeros((1, width)), np.eye(width)])
    weights = np.empty((n_layer, width))
    for layer in range(n_layer):
        states = np.concatenate([memory[:, layer], rule[:, layer]])
        line = probe_scores(states, labels, keys, ends, seed=seed)
        weights[layer] = line[1:] - line[0]
    return weights
