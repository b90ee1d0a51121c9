"""Can the behaviour be told before the answer is written? Linear probes on hidden states, and what
they must beat.

Labels are 1 = generalization, 0 = memorization; the caller drops "other". Keys name what each
prompt was built from. Everything that is fitted or chosen (weights, C, orientation, threshold) uses
train keys only, and a key on both sides is refused. Intervals are a bootstrap over test keys with
the probe held fixed: they say how far a score depends on these test keys, not how far it depends on
training probe and model again (that is what seeds are for).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from memgen.intervals import bootstrap_by_key

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

C_GRID = (0.001, 0.01, 0.1, 1.0, 10.0)  # inverse strength of the L2 penalty
N_FOLDS = 5
NAN = float("nan")


# -- probes and baselines --------------------------------------------------------------------------


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

    train_labels, train_keys, test_labels, test_keys = _checked(
        train_labels, train_keys, test_labels, test_keys
    )
    train_states = _features("train_states", train_states, train_labels, ndim=3)
    test_states = _features("test_states", test_states, test_labels, ndim=3)

    rows = []
    for layer, probe in enumerate(
        probes or fit_probes(train_states, train_labels, train_keys, seed=seed, c_grid=c_grid)
    ):
        scores = probe.log_odds(test_states[:, layer])
        row = _scored(
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
        _fit_probe(states[:, layer], labels, keys, c_grid, seed) for layer in range(states.shape[1])
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
    return _fit_probe(
        train, np.asarray(train_labels), np.asarray(train_keys), C_GRID, seed, standardise
    ).log_odds(test)


def prompt_scores(
    train_tokens: np.ndarray,
    train_labels: np.ndarray,
    train_keys: np.ndarray,
    test_tokens: np.ndarray,
    *,
    seed: int,
) -> np.ndarray:
    """The same from which token stands where in the prompt, [n, T] and [m, T], so from the prompt
    without the model: the baseline `prompt_only`.
    """
    train, test = _one_hot(train_tokens, test_tokens)
    return probe_scores(train, train_labels, train_keys, test, seed=seed, standardise=False)


def baselines(
    train_labels: np.ndarray,
    train_keys: np.ndarray,
    test_labels: np.ndarray,
    test_keys: np.ndarray,
    *,
    train_states: np.ndarray,
    test_states: np.ndarray,
    prompt_only: np.ndarray,
    train_scores: Mapping[str, np.ndarray],
    test_scores: Mapping[str, np.ndarray],
    seed: int,
    n_shuffles: int = 5,
    c_grid: Sequence[float] = C_GRID,
    n_resamples: int = 1000,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """What a probe has to beat, on the same rows, as a table with one row per name:

    - majority: the train set's more frequent behaviour, always;
    - shuffled_labels: the probe on `states` [n, d] of one layer, refitted `n_shuffles` times to
      permuted train labels. Its scores are means over the shuffles, its intervals the spread of a
      single one (shuffle and test keys);
    - prompt_only: log odds [n] of the test prompts from their tokens alone, as `prompt_scores`
      gives them;
    - one row per entry of `scores` ({"answer_margin": [n], "entropy": [n]}), each a single number
      per prompt such as the model's own next-token statistics. Orientation (is high rule or
      memory?) and threshold come from train.

    labels, keys: [n]. Columns: name, accuracy, accuracy_low, accuracy_high, auc, auc_low, auc_high,
    n, n_keys. One class in train or test is treated as in `probe_by_layer`; so are errors.
    """
    import pandas as pd

    train_labels, train_keys, test_labels, test_keys = _checked(
        train_labels, train_keys, test_labels, test_keys
    )
    train_states = _features("train_states", train_states, train_labels, ndim=2)
    test_states = _features("test_states", test_states, test_labels, ndim=2)
    if set(train_scores) != set(test_scores):
        raise ValueError(
            f"scores of train and test differ: {sorted(train_scores)} and {sorted(test_scores)}"
        )

    rows = []

    def add(name: str, scores: np.ndarray, answers: np.ndarray) -> None:
        row = _scored(test_labels, test_keys, scores, answers, seed, n_resamples, confidence)
        rows.append({"name": name} | row)

    always = np.full((1, len(test_labels)), train_labels.mean() >= 0.5)
    add("majority", always.astype(float), always)

    rng = np.random.default_rng(seed)
    shuffled = np.empty((n_shuffles, len(test_labels)))
    for i in range(n_shuffles):
        probe = _fit_probe(train_states, rng.permutation(train_labels), train_keys, c_grid, seed)
        shuffled[i] = probe.log_odds(test_states)
    add("shuffled_labels", shuffled, shuffled > 0)

    scores = np.asarray(prompt_only)[None]
    add("prompt_only", scores, scores > 0)

    for name in train_scores:
        train = _features(f"train_scores[{name!r}]", train_scores[name], train_labels, ndim=1)
        test = _features(f"test_scores[{name!r}]", test_scores[name], test_labels, ndim=1)
        train_auc = roc_auc(train_labels, train)
        sign = -1.0 if train_auc < 0.5 else 1.0
        scores = sign * test[None] if np.isfinite(train_auc) else np.where(always, np.inf, -np.inf)
        add(name, scores, scores > best_threshold(train_labels, sign * train))
    return pd.DataFrame(rows)


# -- scores ----------------------------------------------------------------------------------------


def roc_auc(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None
) -> float | np.ndarray:
    """Area under the ROC curve: how often a generalization scores above a memorization, ties
    counting half.

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
        ties = np.flatnonzero(
            np.concatenate([[True], scores[1:] != scores[:-1]])
        )  # first row of every score
        positive = np.add.reduceat(w * labels, ties, axis=1)  # [B, different scores]
        negative = np.add.reduceat(w * (1 - labels), ties, axis=1)
        negative_below = np.cumsum(negative, axis=1) - negative
        concordant = (positive * (negative_below + negative / 2)).sum(axis=1)
        all_pairs = positive.sum(axis=1) * negative.sum(axis=1)
        auc = np.divide(concordant, all_pairs, out=np.full(len(w), np.nan), where=all_pairs > 0)
    return float(auc[0]) if weights is None else auc


def best_threshold(labels: np.ndarray, scores: np.ndarray) -> float:
    """The threshold t for which `scores > t` agrees most often with the labels [n]; the lowest such
    t.

    It lies midway between two scores, or is an infinity where one answer throughout is best.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=float)
    values = np.unique(scores)
    cuts = np.concatenate([[-np.inf], (values[1:] + values[:-1]) / 2, [np.inf]])
    negatives_below = np.searchsorted(np.sort(scores[labels == 0]), cuts, side="right")
    positives_below = np.searchsorted(np.sort(scores[labels == 1]), cuts, side="right")
    return float(cuts[np.argmax(negatives_below - positives_below)])


def _scored(
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


# -- fitting ---------------------------------------------------------------------------------------


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


def _fit_probe(
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


def _one_hot(train_tokens: np.ndarray, test_tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One column per position and token seen there in train [n, columns]; a token new in test is a
    row of zeros.
    """
    vocabulary = [np.unique(column) for column in train_tokens.T]
    train, test = (
        np.hstack(
            [tokens[:, [position]] == seen for position, seen in enumerate(vocabulary)]
        ).astype(np.float64)
        for tokens in (train_tokens, test_tokens)
    )
    return train, test


# -- checks ----------------------------------------------------------------------------------------


def refuse_shared_keys(train_keys: np.ndarray, test_keys: np.ndarray) -> None:
    """Raises ValueError, naming one, if any key is in both sets."""
    shared = set(np.asarray(train_keys).tolist()) & set(np.asarray(test_keys).tolist())
    if shared:
        example = min(shared, key=str)
        raise ValueError(
            f"{len(shared)} keys are in both train and test, for example {example!r}: split by key"
            " first"
        )


def _checked(train_labels, train_keys, test_labels, test_keys) -> list[np.ndarray]:
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


def _features(name: str, array: np.ndarray, labels: np.ndarray, ndim: int) -> np.ndarray:
    array = np.asarray(array)
    if array.ndim != ndim or len(array) != len(labels):
        raise ValueError(
            f"{name}: {ndim} dimensions and {len(labels)} rows needed, got shape {array.shape}"
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, but holds nan or inf")
    return array
