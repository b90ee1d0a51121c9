"""Can the behaviour be told before the answer is written? Linear probes on hidden states, and what
they must beat.

Labels are 1 = generalization, 0 = memorization; the caller drops "other". Keys name what each
prompt was built from. Everything that is fitted or chosen (weights, C, orientation, threshold) uses
train keys only, and a key on both sides is refused. Intervals are a bootstrap over test keys with
the probe held fixed: they say how far a score depends on these test keys, not how far it depends on
training probe and model again (that is what seeds are for).

Which part of the recipe matters: the chosen shift with one ingredient exchanged at a time, at
the same size, on the same test prompts.

The shift under test is the cell that the intervention stage chose on validation keys; nothing is
tuned here. Neurons, values and probes come from the train pairs. Every additive variant has the L2
norm of that shift over all layers together, so what differs is where it points, not how far it
goes. At another site the norm is matched relative to the states there; a clamp has no fixed norm,
and what it moved by is reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from memgen.stats.auc import roc_auc
from memgen.stats.intervals import bootstrap_by_key

C_GRID = (0.001, 0.01, 0.1, 1.0, 10.0)  # inverse strength of the L2 penalty
N_FOLDS = 5
from memgen.stats.intervals import NAN


def probe_by_layer(
    train_states: np.ndarray,
    train_labels: np.ndarray,
    train_keys: np.ndarray,
    test_states: np.ndarray,
    test_labels: np.ndarray,
    test_keys: np.ndarray,
    *,
    seed: int,
    c_grid: Sequence[float] = C_GRID,
    n_resamples: int = 1000,
    confidence: float = 0.95,
    probes: Sequence[Probe] | None = None,
) -> pd.DataFrame:
    """A standardised, L2-penalised logistic regression per layer, fitted on train keys, scored on
    test keys.

    states: [n, L, d]; labels, keys: [n]. C is the value of `c_grid` with the lowest log loss over
    folds of train keys. `probes`: what `fit_probes` made of the same train set, where it was called
    before. Columns: layer, accuracy, accuracy_low, accuracy_high, auc, auc_low, auc_high, n_test,
    n_test_keys, n_train, positive_share (of the test labels), c, cv_auc.

    `cv_auc` is the AUC over those folds. Choose a best layer by it: choosing by `auc` would choose
    on test keys. A train set of one class teaches nothing: the constant answer has an accuracy, its
    AUC is nan. A test set of one class has AUC nan, an empty one accuracy nan, too. So a tiny run
    goes through, and shows its n. Raises ValueError for a key in both sets, for labels other than 0
    and 1, and for rows that do not match.
    """
    import pandas as pd

    train_labels, train_keys, test_labels, test_keys = checked_sets(
        train_labels, train_keys, test_labels, test_keys
    )
    train_states = features("train_states", train_states, train_labels, ndim=3)
    test_states = features("test_states", test_states, test_labels, ndim=3)

    rows = []
    for layer, probe in enumerate(
        probes or fit_probes(train_states, train_labels, train_keys, seed=seed, c_grid=c_grid)
    ):
        scores = probe.log_odds(test_states[:, layer])
        row = scored(
            test_labels, test_keys, scores[None], scores[None] > 0, seed, n_resamples, confidence
        )
        rows.append(
            {"layer": layer}
            | row
            | {"n_train": len(train_labels), "c": probe.c, "cv_auc": probe.cv_auc}
        )
    table = pd.DataFrame(rows).rename(columns={"n": "n_test", "n_keys": "n_test_keys"})
    table["positive_share"] = float(test_labels.mean()) if len(test_labels) else NAN
    return table


def fit_probes(
    states: np.ndarray,
    labels: np.ndarray,
    keys: np.ndarray,
    *,
    seed: int,
    c_grid: Sequence[float] = C_GRID,
) -> list[Probe]:
    """The probe of every layer, fitted to train states [n, L, d], labels [n] and keys [n]."""
    labels, keys = np.asarray(labels), np.asarray(keys)
    return [
        fit_probe(states[:, layer], labels, keys, c_grid, seed) for layer in range(states.shape[1])
    ]


def probe_arrays(probes: Sequence[Probe], width: int) -> dict[str, np.ndarray]:
    """`weight` [L, d] and `bias` [L] in float64: log odds of generalization at layer l = states [n,
    d] @ weight[l] + bias[l].

    The standardisation is folded in. A probe that saw one class has weights of 0 and an infinite
    bias.
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
    """Log odds of generalization [m] for test [m, d], from the probe that `probe_by_layer` fits to
    train [n, d].
    """
    return fit_probe(
        train, np.asarray(train_labels), np.asarray(train_keys), C_GRID, seed, standardise
    ).log_odds(test)


def scored(
    labels: np.ndarray,
    keys: np.ndarray,
    scores: np.ndarray,
    answers: np.ndarray,
    seed: int,
    n_resamples: int,
    confidence: float,
) -> dict:
    """Accuracy of `answers` [draws, n] and AUC of `scores` [draws, n] with intervals, and what they
    rest on.
    """
    columns = ("accuracy", "accuracy_low", "accuracy_high", "auc", "auc_low", "auc_high")
    row = dict.fromkeys(columns, NAN) | {"n": len(labels), "n_keys": len(np.unique(keys))}
    if len(labels) == 0:
        return row
    correct = answers == (labels == 1)

    def accuracy(correct_rows, weights):  # rows first, as bootstrap_by_key passes them: [n, draws]
        return weights @ correct_rows / weights.sum(axis=1, keepdims=True)

    def auc(score_rows, labels, weights):
        return np.stack([roc_auc(labels, draw, weights) for draw in score_rows.T], axis=1)

    for name, statistic, arrays in (
        ("accuracy", accuracy, [correct.T]),
        ("auc", auc, [scores.T, labels]),
    ):
        result = bootstrap_by_key(
            statistic,
            keys,
            *arrays,
            seed=seed,
            n_resamples=n_resamples,
            confidence=confidence,
            weighted=True,
        )
        row |= {name: result.estimate, f"{name}_low": result.low, f"{name}_high": result.high}
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


def fit_probe(
    x: np.ndarray,
    labels: np.ndarray,
    keys: np.ndarray,
    c_grid: Sequence[float],
    seed: int,
    standardise: bool = True,
) -> Probe:
    """Choose C by log loss over folds of keys, then fit on all of x [n, d]."""
    classes = np.unique(labels)
    if len(classes) == 1:
        return Probe(None, None, int(classes[0]), NAN, NAN)
    grid = sorted(c_grid)
    held_out = np.full(
        (len(grid), len(labels)), np.nan
    )  # log odds of every row while its key was left out
    for fit_rows, held_rows in _folds(labels, keys, seed):
        for i, probe in enumerate(_path(x[fit_rows], labels[fit_rows], grid, standardise)):
            held_out[i, held_rows] = probe.log_odds(x[held_rows])

    rows = ~np.isnan(held_out[0])
    if not rows.any():  # one key, or no fold with both classes: nothing to choose by
        return next(_path(x, labels, [grid[len(grid) // 2]], standardise))
    wrong_way = np.where(labels[rows] == 1, -1.0, 1.0)
    log_loss = np.logaddexp(0, wrong_way * held_out[:, rows]).mean(axis=1)
    best = int(np.argmin(log_loss))
    probe = next(_path(x, labels, [grid[best]], standardise))
    return probe._replace(cv_auc=roc_auc(labels[rows], held_out[best, rows]))


def _path(
    x: np.ndarray, labels: np.ndarray, grid: Sequence[float], standardise: bool
) -> Iterator[Probe]:
    """Fits for every C, strongest penalty first; each starts from the one before, which is several
    times faster.

    The yielded probes share one model: use each before asking for the next.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    x = x.astype(np.float64, copy=False)
    scaler = StandardScaler().fit(x) if standardise else None
    x = scaler.transform(x) if scaler else x
    model = LogisticRegression(max_iter=2000, warm_start=True)
    for c in grid:
        yield Probe(model.set_params(C=c).fit(x, labels), scaler, None, float(c), NAN)


def _folds(
    labels: np.ndarray, keys: np.ndarray, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Row indices (fit, held out) of up to N_FOLDS folds of whole keys, without folds that leave
    one class to fit.
    """
    from sklearn.model_selection import GroupKFold

    n_keys = len(np.unique(keys))
    if n_keys < 2:
        return
    folds = GroupKFold(min(N_FOLDS, n_keys), shuffle=True, random_state=seed).split(
        labels, labels, keys
    )
    yield from ((fit, held) for fit, held in folds if len(np.unique(labels[fit])) == 2)


def refuse_shared_keys(train_keys: np.ndarray, test_keys: np.ndarray) -> None:
    """Raises ValueError, naming one, if any key is in both sets."""
    shared = set(np.asarray(train_keys).tolist()) & set(np.asarray(test_keys).tolist())
    if shared:
        example = min(shared, key=str)
        raise ValueError(
            f"{len(shared)} keys are in both train and test, for example {example!r}: split by key"
            " first"
        )


def checked_sets(train_labels, train_keys, test_labels, test_keys) -> list[np.ndarray]:
    checked = []
    for name, labels, keys in (
        ("train", train_labels, train_keys),
        ("test", test_labels, test_keys),
    ):
        labels, keys = np.asarray(labels), np.asarray(keys)
        if labels.ndim != 1 or keys.shape != labels.shape:
            raise ValueError(
                f"{name}: labels and keys must both be [n], got {labels.shape} and {keys.shape}"
            )
        if not np.isin(labels, (0, 1)).all():
            raise ValueError(
                f"{name}: labels must be 0 (memorization) or 1 (generalization); drop 'other' first"
            )
        checked += [labels.astype(int), keys]
    if len(checked[0]) == 0:
        raise ValueError("train: there are no prompts to fit a probe on")
    refuse_shared_keys(train_keys, test_keys)
    return checked


def features(name: str, array: np.ndarray, labels: np.ndarray, ndim: int) -> np.ndarray:
    array = np.asarray(array)
    if array.ndim != ndim or len(array) != len(labels):
        raise ValueError(
            f"{name}: {ndim} dimensions and {len(labels)} rows needed, got shape {array.shape}"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, but holds nan or inf")
    return array


def probe_weights(memory: np.ndarray, rule: np.ndarray, keys: np.ndarray, seed: int) -> np.ndarray:
    """Weights `[L, d]` of the prediction stage's probe (one a layer, 1 = rule) in the units of the
    states, fitted to the train pairs `[n, L, d]`.
    """
    labels, keys = np.repeat([0, 1], len(memory)), np.tile(keys, 2)
    n_layer, width = memory.shape[1:]
    ends = np.concatenate(
        [np.zeros((1, width)), np.eye(width)]
    )  # the log odds are a straight line: a step along a neuron adds its weight
    weights = np.empty((n_layer, width))
    for layer in range(n_layer):
        line = probe_scores(
            np.concatenate([memory[:, layer], rule[:, layer]]), labels, keys, ends, seed=seed
        )
        weights[layer] = line[1:] - line[0]
    return weights
