"""The AUC of a probe, measured in many ways: site, layer, kind of probe, keys, comparison, what it beats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from memgen.neurons.probes import auc_within_folds, key_folds
from memgen.neurons.prompt_features import one_hot
from memgen.phases import phase
from memgen.stats.auc import CHANCE, auc_within, roc_auc
from memgen.stats.specifications import drawn_keys, ends

C = 0.1  # inverse strength of the L2 penalty: fixed here, so that many probes are cheap
KINDS = ("logistic", "difference of means")
LAYER_RULES = ("chosen", "last", "middle")
COMPARED = ("all prompts", "within a key")
BARS = ("prompt's tokens", "one half")
FACTORS = ("site", "probe", "layer", "keys", "compared", "against")


class Prompts(NamedTuple):
    """Labelled prompts: states `[n, L, d]` by site, tokens `[n, T]`, labels (1: rule) and keys `[n]`."""

    states: Mapping[str, np.ndarray]
    tokens: np.ndarray
    labels: np.ndarray
    keys: np.ndarray


def line(x: np.ndarray, labels: np.ndarray, kind: str) -> tuple[np.ndarray, float]:
    """Weight `[d]` and bias of a score that is higher for the rule; zeros where one class is missing."""
    if len(np.unique(labels)) < 2:
        return np.zeros(x.shape[1]), 0.0
    if kind == "difference of means":
        return x[labels == 1].mean(0) - x[labels == 0].mean(0), 0.0
    with phase("probes"):
        scaler = StandardScaler().fit(x)
        model = LogisticRegression(C=C, max_iter=500).fit(scaler.transform(x), labels)
    weight = model.coef_[0] / scaler.scale_
    return weight, float(model.intercept_[0] - weight @ scaler.mean_)


def held_out_auc(
    x: np.ndarray, labels: np.ndarray, keys: np.ndarray, kind: str, seed: int
) -> float:
    """AUC within folds of whole train keys: what a layer is chosen by."""
    scores = np.full(len(x), np.nan)
    for fit, held in key_folds(labels, keys, seed):
        weight, bias = line(x[fit], labels[fit], kind)
        scores[held] = x[held] @ weight + bias
    return auc_within_folds(labels, scores, keys, seed)


def probe_curve(
    prompts: Prompts,
    masks: Sequence[tuple[str, np.ndarray]],
    drawing: tuple[int, int],
) -> pd.DataFrame:
    """All specifications: factors, success (the AUC), control, effect, low, high.

    masks: by name of a deal which prompts are fitted on, `[n]` bool; the others report (their keys are
    other ones). `drawing`: resamples and seed.
    """
    parts = []
    for name, fitted in masks:
        told, labels = ~fitted, prompts.labels
        names, places = np.unique(prompts.keys[told], return_inverse=True)
        weights = drawn_keys(len(names), *drawing)[:, places]
        old, new = one_hot(prompts.tokens[fitted], prompts.tokens[told])
        weight, bias = _tokens(old, labels[fitted])
        measured = (labels[told], prompts.keys[told], weights)
        words = {c: _auc(new @ weight + bias, *measured, c) for c in COMPARED}
        for (site, states), kind in product(prompts.states.items(), KINDS):
            scores = _by_rule(states, (labels, prompts.keys), fitted, kind, drawing[1])
            known: dict[tuple[int, str], np.ndarray] = {}
            for (rule, (layer, of)), compared in product(scores.items(), COMPARED):
                if (layer, compared) not in known:
                    known[layer, compared] = _auc(of, *measured, compared)
                auc = known[layer, compared]
                for bar in BARS:
                    half = np.full(auc.shape, CHANCE)
                    control = half if bar == "one half" else np.fmax(half, words[compared])
                    row = {"site": site, "probe": kind, "layer": rule, "keys": name}
                    row |= {"compared": compared, "against": bar}
                    row |= {"success": auc[0], "control": control[0]}
                    parts.append(row | ends((auc - control)[:, None], len(names)).iloc[0].to_dict())
    table = pd.DataFrame(parts, columns=[*FACTORS, "success", "control", "effect", "low", "high"])
    return table.sort_values(
        "against", key=lambda c: c != BARS[0], kind="stable", ignore_index=True
    )


def _by_rule(
    states: np.ndarray,
    known: tuple[np.ndarray, np.ndarray],
    fitted: np.ndarray,
    kind: str,
    seed: int,
) -> dict[str, tuple[int, np.ndarray]]:
    """By rule of the layer: the layer, and scores of the prompts that report."""
    labels, keys = (column[fitted] for column in known)
    x = states.astype(np.float64)
    n_layer = x.shape[1]
    aucs = [held_out_auc(x[fitted, k], labels, keys, kind, seed) for k in range(n_layer)]
    layers = {
        "chosen": int(np.nanargmax(aucs)) if not np.isnan(aucs).all() else n_layer - 1,
        "last": n_layer - 1,
        "middle": n_layer // 2,
    }
    found = {}
    for rule in LAYER_RULES:
        weight, bias = line(x[fitted, layers[rule]], labels, kind)
        found[rule] = layers[rule], x[~fitted, layers[rule]] @ weight + bias
    return found


def _tokens(x: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, float]:
    """The same of which token stands where: not standardised, as in lab 05."""
    if len(np.unique(labels)) < 2:
        return np.zeros(x.shape[1]), 0.0
    with phase("probes"):
        model = LogisticRegression(C=1.0, max_iter=500).fit(x, labels)
    return model.coef_[0], float(model.intercept_[0])


def _auc(
    scores: np.ndarray, labels: np.ndarray, keys: np.ndarray, weights: np.ndarray, compared: str
) -> np.ndarray:
    """AUC `[1 + B]`, of all pairs of prompts, or of those of one key."""
    if compared == "within a key":
        return auc_within(labels, scores, keys, weights)
    found = roc_auc(labels, scores, weights)
    return np.asarray(found)
