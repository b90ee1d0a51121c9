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


@pytest.mark.filterwarnings("error")
def test_what_is_undefined_is_nan_without_a_warning():
    assert np.isnan(roc_auc([1, 0, 0], [0.1, np.nan, 0.3]))
    assert np.isnan(roc_auc([1, 0, 0], [0.1, np.inf, 0.3]))
    assert np.isnan(roc_auc([1, 0], [0.2, 0.1], weights=[[0, 3]])).all()
    assert isinstance(roc_auc([1, 0], [0.2, 0.1]), float)


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


def test_within_groups_of_any_size_every_pair_of_resampled_prompts_is_counted():
    rng = np.random.default_rng(2)
    groups = np.repeat([0, 1, 2, 3], [3, 6, 12, 20])
    labels, scores = rng.integers(0, 2, 41), rng.normal(size=41).round(1)
    weights = rng.integers(0, 3, size=(4, 41)).astype(float)
    higher = (scores[:, None] > scores) + (scores[:, None] == scores) / 2
    pair = (labels[:, None] > labels) & (groups[:, None] == groups)
    expected = [
        (np.outer(w, w) * pair * higher).sum() / (np.outer(w, w) * pair).sum() for w in weights
    ]
    np.testing.assert_allclose(auc_within(labels, scores, groups, weights), expected)


def test_a_single_pair_within_a_group_is_right_or_wrong():
    once = np.ones((1, 3))
    assert auc_within([0, 1, 1], [0.0, 1.0, 2.0], [0, 0, 1], once)[0] == 1.0
    assert auc_within([1, 0, 1], [0.0, 1.0, 2.0], [0, 0, 1], once)[0] == 0.0


@pytest.mark.filterwarnings("error")
def test_groups_of_one_behaviour_and_scores_that_are_not_finite_say_nothing():
    once = np.ones((1, 2))
    assert np.isnan(auc_within([1, 1], [0.0, 1.0], [0, 0], once)[0])
    assert np.isnan(auc_within([0, 1], [np.nan, np.nan], [0, 0], once)[0])
    assert np.isnan(auc_within([], [], [], np.ones((1, 0)))[0])


def test_a_threshold_lies_between_neighbours_of_single_precision():
    """Their sum is rounded in single precision, and the midpoint would be the upper one."""
    low = np.nextafter(np.float32(1), np.float32(2))
    high = np.nextafter(low, np.float32(2))
    assert (low + high) / np.float32(2) == high
    found = best_threshold(np.array([0, 1]), np.array([low, high]))
    assert float(low) < found < float(high)
