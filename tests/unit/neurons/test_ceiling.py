"""The ceiling finds what no straight line finds, and nothing where there is nothing."""

import numpy as np

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
    assert np.isnan(ceiling_forecast(one, train.states, (old, old), 0).scores).all()
    lone = Examples(train.states, train.labels, np.zeros(40))
    found = ceiling_forecast(lone, train.states[:0], (old, old[:0]), 0)
    assert found.scores.shape == (0,) and np.isnan(found.cv_auc)
