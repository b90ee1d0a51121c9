"""A planted stable set is found again by other keys; noise is found as often as by chance."""

from __future__ import annotations

import numpy as np
import pytest

from memgen.neurons.nmd import correlation
from memgen.neurons.stability import (
    PairSums,
    agreement,
    by_chance,
    halvings,
    jaccard,
    resamples,
)

L, D, KEYS, EACH = 2, 50, 12, 6


def states(size: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of noise; the first five neurons of the second layer differ by `size`."""
    rng = np.random.default_rng(0)
    memory, rule = rng.normal(size=(2, KEYS * EACH, L, D))
    rule[:, 1, :5] += size
    return memory, rule, np.repeat(np.arange(KEYS), EACH)


def test_rho_of_weights_is_that_of_the_pairs_drawn():
    memory, rule, keys = states(1.0)
    memory += 100  # a large mean must not cost precision
    rule += 100
    drawn = np.array([3.0, *np.ones(KEYS - 2), 0.0])
    rows = np.repeat(np.arange(len(keys)), drawn[keys].astype(int))
    labels = np.repeat([0, 1], len(rows))
    wanted = correlation(np.concatenate([memory[rows], rule[rows]]), labels)
    found = PairSums.of(memory, rule, keys).rho(drawn[None])[0]
    np.testing.assert_allclose(found, wanted, atol=1e-9)


@pytest.mark.parametrize("draw", [halvings, resamples])
def test_planted_neurons_are_the_same_under_other_keys(draw):
    sums, rng = PairSums.of(*states(4.0)), np.random.default_rng(1)
    found = agreement(sums, draw(KEYS, 20, rng), 0.05, rng)
    assert found["jaccard"] == found["low"] == 1.0
    # both sets are the five of 50 in one layer: by chance half a neuron in common
    assert found["null"] == pytest.approx(0.055, abs=0.04)
    assert found["above"] == pytest.approx(1 - found["null"])


def test_neurons_of_noise_are_as_alike_as_chance_has_it():
    memory, rule, keys = states(0.0)
    sums, rng = PairSums.of(memory, rule, keys), np.random.default_rng(1)
    found = agreement(sums, halvings(KEYS, 60, rng), 0.1, rng)
    assert abs(found["above"]) < 0.05


def test_chance_knows_of_crowded_layers():
    """All neurons of one layer and none of the other: random sets as large are the same set."""
    mask = np.zeros((2, 10), dtype=bool)
    mask[1] = True
    assert by_chance(mask, mask, np.random.default_rng(0)) == 1.0
    assert jaccard(mask, ~mask) == 0.0 and np.isnan(jaccard(mask & False, mask & False))


def test_halves_share_no_key():
    dealt = halvings(7, 5, np.random.default_rng(0))
    assert (dealt.sum(1) <= 1).all() and (dealt.sum(2) == 3).all()


def test_one_key_cannot_be_halved():
    memory, rule, _ = states(1.0)
    sums = PairSums.of(memory, rule, np.zeros(len(memory)))
    assert all(
        np.isnan(v)
        for v in agreement(sums, np.ones((3, 2, 1)), 0.1, np.random.default_rng(0)).values()
    )
