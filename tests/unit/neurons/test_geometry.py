"""Directions among states: planted angles, components and distances."""

from __future__ import annotations

import numpy as np
import pytest

from memgen.neurons.geometry import (
    LEVEL,
    Spread,
    Surroundings,
    ceiling,
    chance_cosine,
    cosine,
    quantiles_among,
    unit,
)

D = 12


@pytest.fixture(scope="module")
def states() -> np.ndarray:
    """4,000 states of 12 dimensions, of which the first varies most and the last hardly."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(4000, D)) * np.geomspace(3, 0.03, D) + 5


def axis(i: int) -> np.ndarray:
    return np.eye(D)[i]


def test_cosines_do_not_mind_lengths_and_signs_are_kept():
    assert cosine(axis(0), 3 * axis(0)) == pytest.approx(1)
    assert cosine(axis(0), -axis(0) - axis(1)) == pytest.approx(-np.sqrt(0.5))
    assert cosine(np.zeros(D), axis(0)) == 0
    assert (unit(np.zeros((2, 3))) == 0).all() and np.linalg.norm(
        unit(np.ones(5))
    ) == pytest.approx(1)


def test_a_share_in_components_is_that_of_the_planted_axes(states):
    spread = Spread.of(states)
    assert spread.shares(7 * axis(0))[0] == pytest.approx(1, abs=0.01)
    assert spread.shares(axis(D - 1))[D - 2] == pytest.approx(0, abs=0.01)
    half = spread.shares(axis(0) + axis(D - 1))
    assert half[0] == pytest.approx(0.5, abs=0.01) and half[-1] == pytest.approx(1)
    variances = np.geomspace(3, 0.03, D) ** 2
    np.testing.assert_allclose(spread.explained, np.cumsum(variances) / variances.sum(), atol=0.02)


def test_both_expectations_of_random_directions_hold(states):
    rng, spread = np.random.default_rng(1), Spread.of(states)
    alike = np.mean([spread.shares(v) for v in rng.normal(size=(3000, D))], axis=0)
    np.testing.assert_allclose(alike, np.arange(1, D + 1) / D, atol=0.02)


def test_chance_is_larger_along_what_varies(states):
    rng, spread = np.random.default_rng(2), Spread.of(states)
    along, across = (chance_cosine(axis(i), spread, rng, 2000) for i in (0, D - 1))
    assert along > 0.9 and across < 0.1
    drawn = states - states.mean(axis=0)  # as the states vary: a direction each
    found = np.quantile([abs(cosine(one, axis(0))) for one in drawn], LEVEL)
    assert along == pytest.approx(found, abs=0.01)


def test_the_ceiling_is_what_noise_leaves_of_a_cosine():
    """A truth and two noisy halves: a fit on all, their mean, is as near to the truth as the ceiling says."""
    rng, d = np.random.default_rng(3), 4000
    truth = unit(rng.normal(size=d))
    for noise in (0.5, 1.0, 3.0):
        one, other = (truth + noise * unit(rng.normal(size=d)) for _ in range(2))
        said = ceiling(cosine(one, other))
        assert said == pytest.approx(cosine(one + other, truth), abs=0.03)
    assert ceiling(1.0) == 1 and ceiling(0.0) == ceiling(-0.3) == 0


def test_states_of_the_same_kind_lie_at_all_quantiles_and_planted_ones_far_out(states):
    known, own = states[:2000], states[2000:]
    place = Surroundings.of(known)
    for of in (place.distances, place.to_nearest):  # of two halves that neither was fitted to
        far = of(own)
        assert (far[1000:] > np.quantile(far[:1000], LEVEL)).mean() == pytest.approx(0.05, abs=0.03)
    far = place.distances(own)
    assert quantiles_among(far, far).mean() == pytest.approx(0.5)
    plain = Surroundings(known, place.spread, shrinkage=0.0).distances(own)
    assert (plain**2).mean() == pytest.approx(D, rel=0.03)  # chi squared of 12
    assert 0 < place.shrinkage < 0.01 and (far < plain).all()  # of axes that hardly vary
    # the same length: hardly to be seen where states vary, far out where they do not
    along, across = (place.distances(own + axis(i)) for i in (0, D - 1))
    limit = np.quantile(far, LEVEL)
    assert (along > limit).mean() < 0.1 and (across > limit).mean() == 1
    assert (place.to_nearest(own + 20 * axis(1)) > np.quantile(place.to_nearest(own), LEVEL)).all()


def test_what_never_varies_is_far_and_finite():
    flat = np.zeros((50, 3))
    flat[:, 0] = np.random.default_rng(4).normal(size=50)
    place = Surroundings(flat, Spread.of(flat), shrinkage=0.0)
    own, off = place.distances(flat), place.distances(flat + [0, 0, 0.1])
    assert own.max() < 4 and off.min() > 50 and np.isfinite(off).all()
    still = Surroundings(flat * 0, Spread.of(flat * 0), shrinkage=0.0)
    assert (still.distances(flat * 0) == 0).all() and np.isfinite(still.distances(flat)).all()


def test_equal_numbers_count_half():
    known = np.array([1.0, 2.0, 2.0, 3.0])
    assert quantiles_among(np.array([0.0, 2.0, 9.0]), known).tolist() == [0.0, 0.5, 1.0]


def test_one_state_does_not_vary():
    with pytest.raises(ValueError, match="two or more"):
        Spread.of(np.ones((1, 4)))
