"""Intervals over seeds: Student's is statsmodels', shared keys widen it, and both hold the truth as
often as they say at the study's own numbers.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import DescrStatsW

from memgen.stats.coverage import Design, Spread, covered
from memgen.stats.over_seeds import (
    NOTHING,
    neuron_intervals,
    of_a_share,
    over_keys,
    over_seeds,
    rate,
)


def units(n_seeds: int, n_keys: int):
    return np.repeat(np.arange(n_seeds), n_keys), np.tile(np.arange(n_keys), n_seeds)


def of_rates(wins, n, seeds, keys, **given):
    return over_keys(lambda w: rate(w, wins, n), seeds, keys, int(n.sum()), **given)


@pytest.mark.parametrize("shared_keys", [False, True])
@pytest.mark.parametrize("seeds_sd", [0.0, 0.4])
def test_intervals_hold_the_truth_as_often_as_they_say(shared_keys, seeds_sd):
    """Three seeds with 14 test keys, as the study has them; 400 simulated studies."""
    found = covered(Design(3, 14, 20, shared_keys), Spread(seeds_sd, 0.8), 0.5, 400, seed=1)
    assert 0.92 <= found <= 0.99


def test_shared_keys_taken_for_new_ones_would_cover_too_little():
    """Seeds that agree because their keys are the same say nothing about other keys."""
    rng, n, hits = np.random.default_rng(0), np.full(42, 20), {True: 0, False: 0}
    seeds, keys = units(3, 14)
    for _ in range(200):
        p = np.clip(0.5 + rng.normal(0, 0.25, 14)[keys], 0, 1)
        wins = rng.binomial(n, p)
        for shared in hits:
            found = of_rates(wins, n, seeds, keys, shared_keys=shared)
            hits[shared] += found.low <= 0.5 <= found.high
    assert hits[True] > 180 and hits[False] < 150


def test_a_key_of_a_seed_is_one_row():
    with pytest.raises(ValueError, match="seed 0: a key occurs twice"):
        of_rates(np.ones(2), np.ones(2), np.array([0, 0]), np.array([1, 1]))


def test_the_value_is_the_mean_of_what_each_seed_says():
    seeds, keys = np.array([0, 0, 0, 1, 1]), np.array([0, 1, 2, 0, 1])
    wins, n = np.array([1, 2, 3, 4, 4]), np.full(5, 4)
    found = of_rates(wins, n, seeds, keys)
    expected = DescrStatsW([0.5, 1.0]).tconfint_mean(0.05)
    assert (found.low, found.high) == pytest.approx(expected)
    assert (found.value, found.n, found.n_keys, found.n_seeds) == (0.75, 20, 5, 2)
    shared = of_rates(wins, n, seeds, keys, shared_keys=True)
    assert shared.n_keys == 3 and shared.low < found.low and shared.value == found.value


def test_a_seed_in_which_nothing_is_defined_is_left_out():
    seeds, keys = units(3, 2)
    wins, n = np.array([1, 1, 2, 3, 0, 0]), np.array([4, 4, 4, 4, 0, 0])
    found = of_rates(wins, n, seeds, keys)
    assert found.n_seeds == 2 and found.value == pytest.approx((0.25 + 0.625) / 2)


def test_what_could_have_been_detected_is_statsmodels_power():
    """The effect that a study with this spread finds with 80 % power."""
    found = over_seeds([0.2, 0.5, 0.4, 0.3])
    error = np.std([0.2, 0.5, 0.4, 0.3], ddof=1)
    size = TTestPower().solve_power(nobs=4, alpha=0.05, power=0.8)
    assert found.detectable == pytest.approx(size * error, rel=1e-3)
    assert math.isnan(over_seeds([0.2]).detectable)


def test_a_planted_difference_is_found_and_no_difference_is_not():
    seeds, keys = units(3, 14)
    rng, n = np.random.default_rng(0), np.full(42, 12)
    for gap, found in ((0.4, True), (0.0, False)):
        a, b = rng.binomial(n, 0.5 + gap), rng.binomial(n, 0.5)
        effect = over_keys(lambda w: rate(w, a, n) - rate(w, b, n), seeds, keys, 42 * 24)
        assert (effect.low > 0) == found and effect.value == pytest.approx(
            (a.sum() - b.sum()) / n.sum()
        )
        assert (effect.n, effect.n_keys, effect.n_seeds) == (42 * 24, 42, 3)
    assert effect == over_keys(
        lambda w: rate(w, a, n) - rate(w, b, n), seeds, keys, 42 * 24
    )  # the same again


def test_students_interval_is_statsmodels():
    values = [0.2, 0.5, 0.4]
    effect = over_seeds([*values, None, float("nan")], 30)
    assert (effect.low, effect.high) == pytest.approx(DescrStatsW(values).tconfint_mean(0.05))
    assert (effect.value, effect.n, effect.n_seeds) == (pytest.approx(np.mean(values)), 30, 3)
    alike = over_seeds([0.5, 0.5], resolution=0.1)  # a step of .1 hides what differs by less
    assert (alike.low, alike.high) == pytest.approx(
        (0.5 - 12.706 * 0.05 / 2**0.5, 0.5 + 12.706 * 0.05 / 2**0.5), rel=1e-3
    )


def test_where_nothing_varies_there_is_no_interval():
    assert (
        over_seeds([])
        == NOTHING
        == over_seeds([None])
        == over_keys(lambda w: w[:, 0], np.array([]), np.array([]), 0)
    )
    one = over_seeds([0.3])
    assert one.value == 0.3 and math.isnan(one.low) and one.n_seeds == 1
    one = over_keys(
        lambda w: rate(w, np.array([1]), np.array([2])), np.array([0]), np.array([0]), 2
    )
    assert one.value == 0.5 and math.isnan(one.low)


def test_one_number_per_seed_rests_on_no_keys():
    one, many = over_seeds([0.5, None]), over_seeds([0.5, 0.7, float("nan")], n=9)
    assert (one.value, one.n, one.n_keys, one.n_seeds) == (0.5, 0, 0, 1)
    assert math.isnan(one.low) and math.isnan(one.high)
    assert (many.n, many.n_keys, many.n_seeds) == (9, 0, 2) and many.value == pytest.approx(0.6)


def test_a_rate_of_nothing_is_undefined():
    assert np.isnan(rate(np.ones((1, 2)), np.zeros(2), np.zeros(2))).all()


def test_intervals_of_neurons_hold_the_truth_and_widen_with_fewer_keys():
    rng = np.random.default_rng(0)
    keys = np.repeat(np.arange(40), 5)
    differences = (
        np.array([1.0, 0.0]) + rng.normal(0, 0.5, (40, 2))[keys] + rng.normal(0, 0.5, (200, 2))
    )
    found = neuron_intervals(differences, keys)
    assert (
        0 < found["nmd_low"][0] < 1 < found["nmd_high"][0]
        and found["nmd_low"][1] < 0 < found["nmd_high"][1]
    )
    size = differences.mean(0) / differences.std(0, ddof=1)
    assert (found["effect_low"] < size).all() and (size < found["effect_high"]).all()
    few = neuron_intervals(differences[:50], keys[:50])
    assert ((few["nmd_high"] - few["nmd_low"]) > 1.3 * (found["nmd_high"] - found["nmd_low"])).all()
    assert all(
        np.isnan(v).all() for v in neuron_intervals(differences[:5], keys[:5]).values()
    )  # one key: no interval


def test_intervals_of_neurons_follow_the_data_alone():
    rng = np.random.default_rng(1)
    keys, differences = np.repeat(np.arange(12), 4), rng.normal(2, 1, (48, 2))
    found, again, larger = (
        neuron_intervals(x, keys) for x in (differences, differences, 3 * differences)
    )
    for name, interval in found.items():
        np.testing.assert_array_equal(interval, again[name])
        scale = 3 if name.startswith("nmd") else 1  # an effect size has no unit
        np.testing.assert_allclose(larger[name], scale * interval)
    two = neuron_intervals(differences[:8], keys[:8])
    assert list(two) == list(neuron_intervals(differences[:4], keys[:4])) == list(found)
    assert np.isfinite(two["nmd_low"]).all()


def test_the_interval_of_a_share_ends_at_0_and_1():
    wide = over_seeds([0.1, 0.5, 0.9], n=90)
    assert wide.low < 0 and wide.high > 1
    assert of_a_share(wide) == wide._replace(low=0.0, high=1.0)
    narrow = over_seeds([0.5, 0.51, 0.52], n=90)
    assert of_a_share(narrow) == narrow
    assert np.isnan(of_a_share(NOTHING).low) and np.isnan(of_a_share(NOTHING).high)
