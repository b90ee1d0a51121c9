"""What train pairs say: planted directions have their cosine and distance back, noise has none."""

from __future__ import annotations

import numpy as np
import pytest

from memgen.neurons.pair_agreement import mean_cosine, separation

KEYS = np.repeat(np.arange(20), 10)


def test_cosines_of_pairs_that_point_one_way_and_of_pairs_that_do_not():
    rng = np.random.default_rng(0)
    one_way = np.zeros((200, 30)) + rng.normal(size=30)
    assert mean_cosine(one_way * rng.uniform(0.1, 5, (200, 1)), KEYS) == pytest.approx(1)
    assert abs(mean_cosine(rng.normal(size=(200, 30)), KEYS)) < 0.02


def test_pairs_of_one_key_do_not_count_as_agreement():
    """Each key points a way of its own: within keys the cosine is 1, between them 0."""
    assert mean_cosine(np.eye(20)[KEYS], KEYS) == pytest.approx(0, abs=1e-12)
    assert np.isnan(mean_cosine(np.ones((5, 3)), np.zeros(5)))
    assert np.isnan(mean_cosine(np.zeros((5, 3)), np.arange(5)))


@pytest.mark.parametrize("distance", [0.5, 2.0])
def test_a_planted_separation_is_measured(distance):
    rng = np.random.default_rng(1)
    memory, rule = rng.normal(size=(2, 200, 5))
    rule[:, 0] += distance
    assert separation(memory, rule, KEYS, 0) == pytest.approx(distance, abs=0.25)


def test_noise_in_many_dimensions_is_not_separated():
    """Along its own mean difference it would be: 200 pairs in 1,000 dimensions."""
    rng = np.random.default_rng(2)
    memory, rule = rng.normal(size=(2, 200, 1000))
    assert abs(separation(memory, rule, KEYS, 0)) < 0.3
    own = rule.mean(0) - memory.mean(0)
    low, high = (side @ own for side in (memory, rule))
    assert (high.mean() - low.mean()) / high.std() > 2  # what folds of keys are for
    assert np.isnan(separation(memory[:5], rule[:5], np.zeros(5), 0))
