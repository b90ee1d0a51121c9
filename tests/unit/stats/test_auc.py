"""AUC equals sklearn's, weighted and with ties; the best threshold is the best."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from memgen.stats.auc import auc_within, best_threshold, roc_auc


@pytest.mark.parametrize("decimals", [1, 8])  # with and without ties
def test_auc_equals_sklearn(decimals):
    rng = np.random.default_rng(decimals)
    labels, scores = rng.integers(0, 2, size=80), rng.normal(size=80).round(decimals)
    weights = rng.integers(0, 4, size=(5, 80))
    assert roc_auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    expected = [roc_auc_score(labels, scores, sample_weight=w) for w in weights]
    np.testing.assert_allclose(roc_auc(labels, scores, weights), expected, atol=1e-12)


def test_auc_of_one_class_is_nan():
    assert np.isnan(roc_auc([1, 1], [0.1, 0.2]))
    assert np.isnan(roc_auc([], []))
    result = roc_auc([0, 1], [0.1, 0.2], weights=[[1, 1], [2, 0]])
    assert result[0] == 1 and np.isnan(result[1])


@pytest.mark.parametrize("seed", range(5))
def test_best_threshold_beats_every_other(seed):
    rng = np.random.default_rng(seed)
    labels, scores = rng.integers(0, 2, size=30), rng.normal(size=30).round(1)

    def accuracy(threshold):
        return ((scores > threshold) == labels).mean()

    assert accuracy(best_threshold(labels, scores)) == max(
        accuracy(t) for t in np.linspace(-4, 4, 1601)
    )


def test_within_groups_only_their_own_prompts_are_compared():
    """The score tells the groups apart and nothing within them; a better one does the opposite."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(10), 20)
    labels = (rng.random(200) < np.where(groups < 5, 0.1, 0.9)).astype(int)
    once = np.ones((1, 200))
    between = np.where(groups < 5, 0.0, 1.0)
    assert roc_auc(labels, between) > 0.8 and auc_within(labels, between, groups, once)[0] == 0.5
    inside = labels - 5.0 * groups
    assert roc_auc(labels, inside) < 0.4 and auc_within(labels, inside, groups, once)[0] == 1.0


def test_every_pair_of_prompts_counts_once_and_as_often_as_it_was_drawn():
    labels, scores = np.array([1, 0, 1, 0]), np.array([2.0, 1.0, 0.0, 1.5])
    times = np.array([2, 1, 1, 0])
    drawn = np.repeat(np.arange(4), times)
    (found,) = auc_within(labels, scores, np.zeros(4), times[None].astype(float))
    assert found == roc_auc(labels[drawn], scores[drawn]) == pytest.approx(2 / 3)
    two = np.array([0, 0, 1, 1])  # one pair in each group: one right, one wrong
    assert auc_within(labels, scores, two, np.ones((1, 4)))[0] == 0.5


def test_groups_of_one_behaviour_and_scores_that_are_not_finite_say_nothing():
    once = np.ones((1, 2))
    assert np.isnan(auc_within([1, 1], [0.0, 1.0], [0, 0], once)[0])
    assert np.isnan(auc_within([0, 1], [np.nan, np.nan], [0, 0], once)[0])
    assert np.isnan(auc_within([], [], [], np.ones((1, 0)))[0])
