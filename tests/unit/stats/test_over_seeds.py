"""Intervals over seeds: Student's is statsmodels', shared keys widen it, and both hold the truth as
often as they say at the study's own numbers.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import DescrStatsW

from memgen.stats.coverage import Design, Spread, covered
from memgen.stats.intervals import bootstrap_by_key
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
    found = covered("rate", Design(3, 14, 20, shared_keys), Spread(seeds_sd, 0.8), (0.5,), 400, 1)
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


def test_shared_keys_add_what_differs_between_them():
    """With as many prompts of every key, the jackknife's variance is that of a mean of the keys."""
    for n_seeds, n_keys in ((3, 5), (2, 2)):
        seeds, keys = units(n_seeds, n_keys)
        n = np.full(len(keys), 10)
        wins = np.random.default_rng(0).integers(1, 10, len(keys))
        table = (wins / n).reshape(n_seeds, n_keys)
        found = of_rates(wins, n, seeds, keys, shared_keys=True)
        of_seeds, of_keys = table.mean(axis=1), table.mean(axis=0)
        widths, powers = [], []
        for values in (of_seeds, of_keys):
            low, high = DescrStatsW(values).tconfint_mean(0.05)
            widths.append((high - low) / 2)
            size = TTestPower().solve_power(nobs=len(values), alpha=0.05, power=0.8)
            powers.append(size * values.std(ddof=1))
        assert (found.high - found.low) / 2 == pytest.approx(math.hypot(*widths))
        assert found.detectable == pytest.approx(math.hypot(*powers), rel=1e-3)
        assert found.value == pytest.approx(table.mean()) and found.n_keys == n_keys


def test_a_single_shared_key_leaves_the_spread_of_the_seeds():
    seeds, keys = units(3, 1)
    wins, n = np.array([2, 5, 4]), np.full(3, 10)
    found = of_rates(wins, n, seeds, keys, shared_keys=True)
    assert (found.low, found.high) == pytest.approx(DescrStatsW(wins / n).tconfint_mean(0.05))
    assert (found.n_keys, found.n_seeds) == (1, 3)


@pytest.mark.filterwarnings("ignore:Mean of empty slice:RuntimeWarning")
def test_without_a_key_that_can_be_left_out_there_is_no_interval():
    """As of an AUC of two keys, one of each behaviour: how keys differ is not known then."""
    seeds, keys = units(3, 2)
    values = np.array([0.5, 0.5, 0.7, 0.7, 0.9, 0.9])

    def of_both(weights):
        return np.where(weights.sum(axis=1) == 2, weights @ values / 2, np.nan)

    found = over_keys(of_both, seeds, keys, 60, shared_keys=True)
    assert found.value == pytest.approx(0.7)
    assert math.isnan(found.low) and math.isnan(found.high) and math.isnan(found.detectable)


def test_one_seed_with_a_value_is_one_seed():
    seeds, keys = units(2, 2)
    found = of_rates(np.array([1, 3, 0, 0]), np.array([4, 4, 0, 0]), seeds, keys)
    assert (found.value, found.n_seeds, found.n_keys, found.n) == (0.5, 1, 4, 8)
    assert math.isnan(found.low) and math.isnan(found.high)


@pytest.mark.filterwarnings("error")
def test_what_is_undefined_gives_no_warning():
    """Neither in a seed without a prompt, nor where a seed's only key with a prompt is left out."""
    assert np.isnan(rate(np.ones((1, 2)), np.zeros(2), np.zeros(2))).all()
    seeds, keys = units(3, 2)
    wins, n = np.array([1, 1, 3, 0, 0, 0]), np.array([4, 4, 4, 0, 0, 0])

    def times_inverse(weights):  # 1 / 0 is infinite, and 0 times that is undefined
        return (weights @ wins) * (1.0 / (weights @ n))

    found = over_keys(times_inverse, seeds, keys, 12, shared_keys=True)
    assert found == of_rates(wins, n, seeds, keys, shared_keys=True)
    assert (found.n_seeds, found.n_keys) == (2, 2) and math.isfinite(found.low)


def test_a_rate_of_one_prompt_is_its_answer():
    assert rate(np.eye(2), np.array([1, 0]), np.array([1, 1])).tolist() == [1.0, 0.0]


def test_a_statistic_of_single_precision_has_its_interval_in_double():
    seeds, keys = units(3, 2)
    values = np.float32([0.1, 0.2, 0.4])
    found = over_keys(lambda weights: values, seeds, keys, 10**9)
    assert found[:3] == pytest.approx(over_seeds([float(v) for v in values])[:3], rel=1e-12)


def test_intervals_of_neurons_are_those_of_a_bootstrap_over_keys():
    rng = np.random.default_rng(3)
    keys, differences = np.repeat(np.arange(8), [1, 2, 3, 4, 1, 2, 3, 4]), rng.normal(1, 1, (20, 2))
    found = neuron_intervals(differences, keys, seed=5, n_resamples=300)
    statistics = {"nmd": np.mean, "effect": lambda x: x.mean() / x.std(ddof=1)}
    for name, statistic in statistics.items():
        for k in range(2):
            one = bootstrap_by_key(statistic, keys, differences[:, k], seed=5, n_resamples=300)
            ends = found[f"{name}_low"][k], found[f"{name}_high"][k]
            assert ends == pytest.approx((one.low, one.high))


def test_the_size_of_an_effect_in_two_pairs_is_their_mean_by_their_deviation():
    """1 and 3: a half of all resamples holds both (mean 2, deviation 2 ** .5); the others do not vary."""
    found = neuron_intervals(np.array([[1.0], [3.0]]), np.array([0, 1]))
    assert found["effect_low"] == pytest.approx(2**0.5) and found["effect_high"] > 1e6


def test_intervals_of_neurons_are_drawn_from_seed_0_unless_told():
    keys, differences = np.arange(20), np.random.default_rng(1).normal(size=(20, 1))
    told, other = (neuron_intervals(differences, keys, seed) for seed in (0, 1))
    assert neuron_intervals(differences, keys) == told != other


def test_a_key_left_out_counts_by_the_seeds_in_which_that_is_defined():
    """Seed 0 has prompts of key 0 alone, so without it that seed has no rate; seed 1 still has one."""
    seeds, keys = units(2, 3)
    wins, n = np.array([1, 0, 0, 2, 3, 4]), np.array([4, 0, 0, 4, 4, 4])
    found = of_rates(wins, n, seeds, keys, shared_keys=True)
    first, second = 1 / 4, (2 + 3 + 4) / 12
    without = [
        (3 + 4) / 8,  # of seed 1 alone
        (first + (2 + 4) / 8) / 2,
        (first + (2 + 3) / 8) / 2,
    ]
    over_key = (3 - 1) * np.var(without)
    over_seed = np.var([first, second], ddof=1) / 2
    halves = t.ppf(0.975, [1, 2]) * np.sqrt([over_seed, over_key])
    assert found.value == pytest.approx((first + second) / 2)
    assert found.high - found.value == pytest.approx(np.hypot(*halves))
