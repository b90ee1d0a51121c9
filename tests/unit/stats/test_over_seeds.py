"""Intervals over seeds: the hierarchical bootstrap covers as often as it says, and Student's
interval is statsmodels'.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from statsmodels.stats.weightstats import DescrStatsW

from memgen.stats.over_seeds import (
    NOTHING,
    neuron_intervals,
    over_keys,
    over_seeds,
    rate,
    resampled,
)


def units(n_seeds: int, n_keys: int):
    return np.repeat(np.arange(n_seeds), n_keys), np.tile(np.arange(n_keys), n_seeds)


def test_a_resample_draws_seeds_and_then_their_keys():
    seeds, keys = np.array([0, 0, 0, 1, 1]), np.array([0, 1, 2, 0, 1])
    weights = resampled(seeds, keys, np.random.default_rng(0), 500)
    times = (
        weights[:, :3].sum(1) / 3,
        weights[:, 3:].sum(1) / 2,
    )  # whole seeds, each with as many keys as it has
    assert all((t == t.round()).all() for t in times) and (times[0] + times[1] == 2).all()
    assert weights.mean(0) == pytest.approx([1] * 5, abs=0.15)
    with pytest.raises(ValueError, match="seed 0: a key occurs twice"):
        resampled(np.array([0, 0]), np.array([1, 1]), np.random.default_rng(0), 2)


def test_the_interval_covers_as_stated_and_ignoring_seeds_does_not():
    """Rates differ between seeds and between keys; the truth is the mean of the population that
    both are drawn from.
    """
    rng, truth, hits, naive, runs = np.random.default_rng(1), 0.5, 0, 0, 150
    seeds, keys = units(12, 6)
    for run in range(runs):
        p = np.clip(truth + rng.normal(0, 0.15, 12)[seeds] + rng.normal(0, 0.1, len(seeds)), 0, 1)
        wins, n = rng.binomial(10, p), np.full(len(seeds), 10)
        effect = over_keys(lambda w: rate(w, wins, n), seeds, keys, n.sum(), run, 300)
        hits += effect.low <= truth <= effect.high
        alone = over_keys(
            lambda w: rate(w, wins, n),
            np.zeros(len(seeds)),
            np.arange(len(seeds)),
            n.sum(),
            run,
            300,
        )
        naive += alone.low <= truth <= alone.high
    assert 0.86 < hits / runs <= 0.99
    assert naive < hits - 0.1 * runs


def test_a_planted_difference_is_found_and_no_difference_is_not():
    seeds, keys = units(3, 14)
    rng, n = np.random.default_rng(0), np.full(42, 12)
    for gap, found in ((0.3, True), (0.0, False)):
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
    assert over_seeds([0.5, 0.5])[:3] == (0.5, 0.5, 0.5)


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
