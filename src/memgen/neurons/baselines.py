"""What a probe of hidden states has to beat: forecasts that need no model, or only its base.

All that is fitted or chosen comes from train keys: weights, shares, penalties, the base's layer,
and which of the forecasts is the strongest. A probe's *gain* over one is what its AUC on test keys
has above that one's, and above one half.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from memgen.neurons.probes import (
    Examples,
    Probe,
    auc_within_folds,
    checked_sets,
    fit_probe,
    key_folds,
    scored,
)
from memgen.neurons.prompt_features import PromptFeatures, one_hot, role_matrix
from memgen.stats.auc import CHANCE, best_threshold, roc_auc
from memgen.stats.intervals import NAN, Bootstrap, interval

PRIOR = 2.0  # prompts of the overall share that every cell of the table holds beforehand


@dataclass(frozen=True)
class Forecast:
    """Scores of test prompts [m], higher: rule. What is above `threshold` counts as rule.

    cv_auc: AUC within folds of train keys, each scored while it was left out.
    """

    scores: np.ndarray
    cv_auc: float
    threshold: float = 0.0

    @classmethod
    def of(cls, probe: Probe, x: np.ndarray) -> Forecast:
        """A fitted probe's, for x [m, d]."""
        return cls(probe.log_odds(x), probe.cv_auc)


def prompt_forecasts(
    train: PromptFeatures, test: PromptFeatures, labels: np.ndarray, keys: np.ndarray, seed: int
) -> dict[str, Forecast]:
    """The forecasts that see prompts alone; labels, keys: of train [n]. None that a task lacks.

    - prompt_only: which token stands where, logistic;
    - role_features: what holds which place (`Task.roles`), logistic;
    - token_position_table: share of rule answers by last token and position, smoothed;
    - nearest_setting: `Task.nearness` as it is. Nothing is fitted, but for the threshold.
    """
    found = {}
    for name, (old, new) in {
        "prompt_only": one_hot(train.tokens, test.tokens),
        "role_features": role_matrix(train.roles, test.roles),
    }.items():
        if old.shape[1]:
            found[name] = Forecast.of(fit_probe(Examples(old, labels, keys), seed, False), new)
    found["token_position_table"] = _table_forecast(train.cells, test.cells, labels, keys, seed)
    if train.nearness is not None and test.nearness is not None:
        found["nearest_setting"] = Forecast(
            test.nearness,
            auc_within_folds(labels, train.nearness, keys, seed),
            best_threshold(labels, train.nearness),
        )
    return found


def base_forecast(train: Examples, test: np.ndarray, probes: list[Probe]) -> Forecast:
    """`base_probe`: the probe of the layer that is best on train keys, for test states [m, L, d]."""
    layer = best_layer([probe.cv_auc for probe in probes])
    return Forecast.of(probes[layer], test[:, layer])


def best_layer(cv_aucs: list[float]) -> int:
    """The layer (from 0) with the highest cross-validated AUC on *train* keys."""
    return int(np.nan_to_num(np.array(cv_aucs, dtype=float)).argmax())


def strongest(forecasts: Mapping[str, Forecast]) -> str | None:
    """The one with the highest AUC within folds of *train* keys; None: none has any."""
    known = {name: one.cv_auc for name, one in forecasts.items() if np.isfinite(one.cv_auc)}
    return max(known, key=lambda name: known[name]) if known else None


def gain(
    labels: np.ndarray, scores: np.ndarray, other: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """AUC of scores [n] less the larger of that of another's and 0.5, [B]: a weighted statistic."""
    floor = np.maximum(CHANCE, roc_auc(labels, other, weights))
    found: np.ndarray = roc_auc(labels, scores, weights) - floor
    return found


def gains(
    test: Examples,
    probe: np.ndarray,
    forecasts: Mapping[str, Forecast],
    *,
    seed: int,
    n_resamples: int,
) -> dict[str, Bootstrap]:
    """The gain of a probe's scores [m] over each forecast, same prompts, with interval over keys."""
    drawn = {"seed": seed, "n_resamples": n_resamples}
    return {
        name: interval(gain, test.keys, test.labels, probe, one.scores, **drawn)
        for name, one in forecasts.items()
    }


def baselines(
    train: Examples,
    test: Examples,
    forecasts: Mapping[str, Forecast],
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
    - one row per forecast;
    - one row per entry of `scores` (`answer_margin` and `entropy`, say: the model's own next-token
      statistics). Orientation (is high rule or memory?) and threshold come from train.

    Columns: name, accuracy, accuracy_low, accuracy_high, auc, auc_low, auc_high, n, n_keys, cv_auc
    (of forecasts). One class in train or test is treated as in `probe_by_layer`; so are errors.
    """
    train, test = checked_sets(train, test, ndim=2)
    if set(train.scores) != set(test.scores):
        raise ValueError(
            f"scores of train and test differ: {sorted(train.scores)} and {sorted(test.scores)}"
        )
    rows = []

    def add(name: str, scores: np.ndarray, answers: np.ndarray, cv_auc: float = NAN) -> None:
        row = {"name": name} | scored(test, scores, answers, seed, n_resamples)
        rows.append(row | {"cv_auc": cv_auc})

    always = np.full((1, len(test.labels)), train.labels.mean() >= 0.5)
    add("majority", always.astype(float), always)

    rng = np.random.default_rng(seed)
    shuffled = np.empty((n_shuffles, len(test.labels)))
    for i in range(n_shuffles):
        probe = fit_probe(replace(train, labels=rng.permutation(train.labels)), seed)
        shuffled[i] = probe.log_odds(test.states)
    add("shuffled_labels", shuffled, shuffled > 0)

    for name, one in forecasts.items():
        scores = one.scores[None]
        add(name, scores, scores > one.threshold, one.cv_auc)

    for name, of_train in train.scores.items():
        train_auc = roc_auc(train.labels, of_train)
        sign = -1.0 if train_auc < 0.5 else 1.0
        known = np.isfinite(train_auc)
        scores = sign * test.scores[name][None] if known else np.where(always, np.inf, -np.inf)
        add(name, scores, scores > best_threshold(train.labels, sign * of_train))
    return pd.DataFrame(rows)


def _table_forecast(
    train: np.ndarray, test: np.ndarray, labels: np.ndarray, keys: np.ndarray, seed: int
) -> Forecast:
    """Log odds of the share of rule answers in a prompt's cell; train [n], test [m] name cells."""
    if len(np.unique(labels)) == 1:
        return Forecast(np.full(len(test), np.inf if labels[0] == 1 else -np.inf), NAN)
    held_out = np.full(len(labels), np.nan)
    for fit, held in key_folds(labels, keys, seed):
        held_out[held] = _share_log_odds(train[fit], labels[fit], train[held])
    cv_auc = auc_within_folds(labels, held_out, keys, seed)
    return Forecast(_share_log_odds(train, labels, test), cv_auc)


def _share_log_odds(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
    """[m], from labels [n] of both classes; a cell without prompts has the overall share."""
    counts = pd.DataFrame({"cell": train, "rule": labels}).groupby("cell").rule.agg(["sum", "size"])
    rule, n = (counts[name].reindex(test, fill_value=0).to_numpy() for name in ("sum", "size"))
    share = (rule + PRIOR * labels.mean()) / (n + PRIOR)
    found: np.ndarray = np.log(share) - np.log1p(-share)
    return found
