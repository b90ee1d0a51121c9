"""The ceiling finds what no straight line finds, and nothing where there is nothing."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning
from sklearn.neural_network import MLPClassifier

from memgen.neurons import ceiling
from memgen.neurons.ceiling import ceiling_forecast
from memgen.neurons.probes import Examples, fit_probe
from memgen.stats.auc import roc_auc


def asked(seed: int, n: int = 600):
    """The behaviour is which of two directions the state leans to, and the answers say which one."""
    rng = np.random.default_rng(seed)
    states, which = rng.normal(size=(n, 6)), rng.integers(0, 2, size=n)
    labels = (states[np.arange(n), which] > 0).astype(int)
    known = np.stack([which == 0, which == 1], axis=1).astype(float)
    return Examples(states, labels, np.repeat(np.arange(n // 20), 20) + 1000 * seed), known, which


def test_the_network_asks_the_state_about_the_two_answers():
    train, old, _ = asked(1)
    test, new, which = asked(2)
    found = ceiling_forecast(train, test.states, (old, new), seed=0)
    line = fit_probe(Examples(np.hstack([train.states, old]), train.labels, train.keys), 0)
    straight = roc_auc(test.labels, line.log_odds(np.hstack([test.states, new])))
    network = roc_auc(test.labels, found.scores)
    assert network > 0.9 > straight + 0.03 and found.cv_auc > 0.85
    again = ceiling_forecast(train, test.states, (old, new), seed=0)
    np.testing.assert_array_equal(again.scores, found.scores)
    assert again.cv_auc == found.cv_auc


def test_its_scores_are_the_log_odds_of_the_network_of_the_recipe():
    """The recipe: 32 units, a penalty of the two, 30 epochs of batches of 128, steps of .003."""
    train, old, _ = asked(1)
    test, new, _ = asked(2, 100)
    x, y = 50 * np.hstack([train.states, old]), 50 * np.hstack([test.states, new])
    train = Examples(50 * train.states, train.labels, train.keys)
    found = ceiling_forecast(train, 50 * test.states, (50 * old, 50 * new), seed=7)
    centre, spread = x.mean(0), x.std(0)
    expected = []
    for penalty in (30.0, 3.0):
        given = {"alpha": penalty, "max_iter": 30, "batch_size": 128, "learning_rate_init": 3e-3}
        network = MLPClassifier((32,), **given, random_state=7)
        with pytest.warns(ConvergenceWarning):
            network.fit((x - centre) / spread, train.labels)
        memory, rule = network.predict_proba((y - centre) / spread).T
        expected.append(np.log(rule / memory))
    gaps = [np.abs(found.scores - one).max() for one in expected]
    assert min(gaps) < 1e-6 < max(gaps)


def test_a_network_that_is_sure_has_finite_scores():
    train, old, _ = asked(1)
    test, new, _ = asked(2)
    found = ceiling_forecast(train, 1e5 * test.states, (old, new), seed=0)
    assert found.scores.max() == pytest.approx(np.log(1e12), rel=1e-4)
    assert found.scores.min() == pytest.approx(-np.log(1e12), rel=1e-4)


def test_only_the_warning_that_the_epochs_are_over_is_hidden():
    train, *_ = asked(1, 60)
    with pytest.warns(DataConversionWarning):
        ceiling._fitted(ceiling.SIZES[0], train.states, train.labels[:, None], 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ceiling._fitted(ceiling.SIZES[0], train.states, train.labels, 0)


def test_shuffled_labels_leave_it_nothing():
    train, old, _ = asked(1)
    test, new, _ = asked(2)
    shuffled = Examples(
        train.states, np.random.default_rng(0).permutation(train.labels), train.keys
    )
    found = ceiling_forecast(shuffled, test.states, (old, new), seed=0)
    assert abs(roc_auc(test.labels, found.scores) - 0.5) < 0.12


def test_one_behaviour_one_key_and_no_test_prompts_are_no_error():
    train, old, _ = asked(1, 40)
    one = Examples(train.states, np.ones_like(train.labels), train.keys)
    constant = ceiling_forecast(one, train.states, (old, old), 0)
    assert np.isnan(constant.scores).all() and np.isnan(constant.cv_auc)
    lone = Examples(train.states, train.labels, np.zeros(40))
    found = ceiling_forecast(lone, train.states[:0], (old, old[:0]), 0)
    assert found.scores.shape == (0,) and np.isnan(found.cv_auc)
