"""Wilson intervals equal statsmodels'; the bootstrap over keys covers as often as it says."""

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from memgen.stats.intervals import (
    Bootstrap,
    bootstrap_by_key,
    interval,
    percentile_interval,
    pooled,
    wilson,
)


@pytest.mark.parametrize(("successes", "n"), [(0, 5), (5, 5), (1, 3), (37, 100), (299, 600)])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_wilson_equals_statsmodels(successes, n, confidence):
    expected = proportion_confint(successes, n, alpha=1 - confidence, method="wilson")
    assert wilson(successes, n, confidence) == pytest.approx(expected, abs=1e-12)


def test_wilson_of_nothing_is_everything():
    assert wilson(0, 0) == (0, 1)


@pytest.mark.parametrize(("successes", "n"), [(4, 3), (-1, 3)])
def test_wilson_refuses_impossible_counts(successes, n):
    with pytest.raises(ValueError, match="between 0 and n"):
        wilson(successes, n)


def test_pooled_rates_are_the_rate_of_all_prompts_together():
    found = pooled([(0.5, 4), (1.0, 2)])
    assert found == {
        "success": 4 / 6,
        "low": wilson(4, 6)[0],
        "high": wilson(4, 6)[1],
        "n": 6,
        "seeds": 2,
    }
    empty = pooled([(0.0, 0)])
    assert (empty["success"], empty["low"], empty["high"], empty["n"]) == (0, 0, 1, 0)


def mean(values):
    return values.mean()


def weighted_mean(values, weights):
    return weights @ values / weights.sum(axis=1)


def test_weighted_and_plain_statistics_draw_the_same_resamples():
    rng = np.random.default_rng(0)
    keys, values = rng.integers(0, 12, size=50), rng.normal(size=50)
    plain = bootstrap_by_key(mean, keys, values, seed=3, n_resamples=600)
    weighted = bootstrap_by_key(weighted_mean, keys, values, seed=3, n_resamples=600, weighted=True)
    assert plain == pytest.approx(weighted, abs=1e-12)
    assert plain.n_keys == 12
    assert plain.low < plain.estimate == values.mean() < plain.high


def test_same_seed_same_interval_and_another_seed_another():
    keys, values = np.arange(30), np.random.default_rng(0).normal(size=30)
    first, again, other = (
        bootstrap_by_key(mean, keys, values, seed=seed, n_resamples=50) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_whole_keys_are_drawn():
    keys = np.repeat(["a", "b", "c"], 4)
    seen = []
    bootstrap_by_key(
        lambda rows: seen.append(np.bincount(rows, minlength=12)) or 0.0,
        keys,
        np.arange(12),
        seed=0,
    )
    counts = np.array(seen[1:]).reshape(-1, 3, 4)
    assert (counts == counts[:, :, :1]).all()
    assert (counts[:, :, 0].sum(axis=1) == 3).all()


@pytest.mark.slow
def test_coverage_is_as_stated_with_clustered_rows_and_too_low_if_clusters_are_ignored():
    rng = np.random.default_rng(0)
    n_keys, per_key, trials = 40, 5, 300
    keys = np.repeat(np.arange(n_keys), per_key)
    covered = {"by key": 0, "by row": 0}
    for trial in range(trials):
        values = np.repeat(rng.normal(size=n_keys), per_key) + 0.3 * rng.normal(size=keys.size)
        for unit, unit_keys in (("by key", keys), ("by row", np.arange(keys.size))):
            result = bootstrap_by_key(
                weighted_mean,
                unit_keys,
                values,
                seed=trial,
                n_resamples=300,
                confidence=0.9,
                weighted=True,
            )
            covered[unit] += result.low <= 0 <= result.high
    assert 0.84 <= covered["by key"] / trials <= 0.95
    assert covered["by row"] / trials < 0.7


def test_degenerate_resamples_are_dropped_and_counted():
    def ratio_if_any(values):
        return values.mean() if values.any() else float("nan")

    keys = values = np.array([0, 0, 1])
    result = bootstrap_by_key(ratio_if_any, keys, values, seed=0, n_resamples=400)
    assert result.n_degenerate == pytest.approx(400 / 4, abs=40)  # both draws are key 0
    assert np.isfinite([result.low, result.high]).all()

    hopeless = bootstrap_by_key(lambda values: float("nan"), keys, values, seed=0, n_resamples=10)
    assert hopeless.n_degenerate == 10 and np.isnan([hopeless.low, hopeless.high]).all()


def test_repetitions_are_pooled():
    def two(values, weights):
        return np.stack(
            [weighted_mean(values, weights), weighted_mean(values + 10, weights)], axis=1
        )

    values = np.random.default_rng(0).normal(size=30)
    result = bootstrap_by_key(two, np.arange(30), values, seed=0, n_resamples=200, weighted=True)
    assert result.estimate == pytest.approx(values.mean() + 5)
    assert result.low < 1 and result.high > 9


def test_one_key_has_no_interval():
    result = bootstrap_by_key(mean, np.zeros(4), np.arange(4.0), seed=0)
    assert result.estimate == 1.5
    assert np.isnan([result.low, result.high]).all()


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="^bootstrap_by_key: there are no rows$"):
        bootstrap_by_key(mean, np.array([]), np.array([]), seed=0)
    with pytest.raises(ValueError, match="3 keys, but an array of 2 rows"):
        bootstrap_by_key(mean, np.arange(3), np.arange(2), seed=0)
    for confidence in (95, 1.5, 1, 0, -0.5):
        with pytest.raises(ValueError, match="confidence must lie between 0 and 1"):
            percentile_interval(np.arange(3), confidence)


def test_an_interval_is_a_weighted_bootstrap_with_the_resamples_asked_for():
    keys, values = np.arange(30), np.random.default_rng(0).normal(size=30)
    for n in (1, 40):
        found = interval(weighted_mean, keys, values, seed=3, n_resamples=n)
        assert found == bootstrap_by_key(
            weighted_mean, keys, values, seed=3, n_resamples=n, weighted=True
        )
        assert (found.low == found.high) == (n == 1)  # a single resample has no width


def test_an_interval_of_no_row_is_undefined_and_drops_no_resample():
    nothing = interval(weighted_mean, np.array([]), np.array([]), seed=0, n_resamples=9)
    assert nothing == pytest.approx(Bootstrap(np.nan, np.nan, np.nan, 0, 0), nan_ok=True)


def test_an_interval_is_the_central_share_of_its_draws():
    draws = np.random.default_rng(0).permutation(1001)
    assert percentile_interval(draws) == pytest.approx((25, 975))
    assert percentile_interval(draws, 0.5) == pytest.approx((250, 750))
    keys, seen = np.arange(12), []

    def kept(values):
        return seen.append(values.mean()) or seen[-1]

    found = bootstrap_by_key(kept, keys, keys**2, seed=0, confidence=0.5)
    assert len(seen) == 1 + 1000  # of the data, and of as many resamples as there are unless told
    assert (found.low, found.high) == pytest.approx(np.quantile(seen[1:], [0.25, 0.75]))
