"""How much of the behaviour a reader that is no straight line finds: an upper mark for the probe."""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from memgen.neurons.baselines import Forecast
from memgen.neurons.probes import Examples, auc_within_folds, key_folds
from memgen.stats.intervals import NAN

SIZES = ((32, 30.0), (32, 3.0))  # hidden units and L2 penalty that are tried
N_SIZING = 2  # of the folds of train keys that the size is chosen on
EPOCHS, BATCH, LEARNING_RATE = 30, 128, 3e-3


def ceiling_forecast(
    train: Examples, test: np.ndarray, known: tuple[np.ndarray, np.ndarray], seed: int
) -> Forecast:
    """A network of one hidden layer on the states of a layer and on what is `known` beside them.

    train states [n, d], test [m, d]; known: more columns, [n, k] and [m, k], such as the prompt's
    tokens and the two answers' first ones, so that the network can ask the state about these two.
    Its size is the one with the highest AUC on held-out train keys; nan where train has one class.
    """
    labels = train.labels
    old, new = (np.hstack([x, more]) for x, more in zip((train.states, test), known))
    if len(np.unique(labels)) < 2:
        return Forecast(np.full(len(new), np.nan), NAN)
    folds = list(key_folds(labels, train.keys, seed))[:N_SIZING]
    held = np.full((len(SIZES), len(labels)), np.nan)
    for i, size in enumerate(SIZES if folds else ()):
        for fit, rows in folds:
            held[i, rows] = _log_odds(_fitted(size, old[fit], labels[fit], seed), old[rows])
    aucs = [auc_within_folds(labels, one, train.keys, seed) for one in held]
    best = int(np.nan_to_num(aucs).argmax())
    return Forecast(_log_odds(_fitted(SIZES[best], old, labels, seed), new), aucs[best])


def _fitted(size: tuple[int, float], x: np.ndarray, labels: np.ndarray, seed: int) -> Pipeline:
    hidden, penalty = size
    network = MLPClassifier(
        (hidden,),
        alpha=penalty,
        max_iter=EPOCHS,
        batch_size=min(BATCH, len(x)),
        learning_rate_init=LEARNING_RATE,
        random_state=seed,
    )
    with warnings.catch_warnings():  # the number of epochs is part of the recipe
        warnings.simplefilter("ignore", ConvergenceWarning)
        return make_pipeline(StandardScaler(), network).fit(x.astype(np.float64), labels)


def _log_odds(network: Pipeline, x: np.ndarray) -> np.ndarray:
    """[n], kept finite."""
    if not len(x):
        return np.empty(0)
    share = np.clip(network.predict_proba(x.astype(np.float64))[:, 1], 1e-12, 1 - 1e-12)
    found: np.ndarray = np.log(share) - np.log1p(-share)
    return found
