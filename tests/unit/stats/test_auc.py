"""AUC equals sklearn's, weighted and with ties; the best threshold is the best."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from memgen.stats.auc import best_threshold, roc_auc


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
