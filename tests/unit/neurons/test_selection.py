"""The top neurons are as many as asked for, over all layers together."""

import numpy as np
import pytest

from memgen.neurons.selection import select_top


@pytest.mark.parametrize(
    ("share", "count"), [(1e-9, 1), (0.07, 7), (0.071, 8), (0.1, 10), (1, 100), (1.0, 100)]
)
def test_select_top_takes_the_ceiling(share, count):
    score = np.random.default_rng(0).normal(size=(4, 25))
    mask = select_top(score, share)
    assert mask.sum() == count
    if count < 100:
        assert np.abs(score[mask]).min() > np.abs(score[~mask]).max()


def test_ties_go_to_the_lower_layer_then_index():
    mask = select_top(np.array([[1, -1, 0], [2, 1, 1]]), 0.5)
    assert mask.tolist() == [[True, True, False], [True, False, False]]


def test_ties_of_many_neurons_go_to_the_first():
    """Three values over 2000 neurons: of those that tie at the border the first are taken."""
    score = np.random.default_rng(0).integers(0, 3, size=(4, 500)).astype(float)
    flat = score.ravel()
    order = sorted(range(2000), key=lambda i: (-flat[i], i))
    mask = select_top(score, 0.5)
    assert np.flatnonzero(mask).tolist() == sorted(order[:1000])


@pytest.mark.parametrize("share", [0, -0.1, 1.01, float("nan"), float("inf"), None, "many"])
def test_bad_share_names_top_n(share):
    with pytest.raises(ValueError, match="top_n"):
        select_top(np.ones((2, 2)), share)


def test_scores_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="^score must be finite"):
        select_top(np.array([[np.nan, 1]]), 0.5)
