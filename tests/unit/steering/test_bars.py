"""Rates of several draws: how sure one is of them depends on draws and keys, not on the answers alone."""

import numpy as np
import pandas as pd
import pytest

from memgen.stats.intervals import wilson
from memgen.steering.bars import Bar, interval_over_draws, over_draws


def answers(rates, n_keys=14, per_key=7, seed=0):
    """Answers of draws with these rates of success."""
    rng = np.random.default_rng(seed)
    rows = [
        {"draw": draw, "key": key, "success": rng.random() < rate, "other": False}
        for draw, rate in enumerate(rates)
        for key in range(n_keys)
        for _ in range(per_key)
    ]
    return pd.DataFrame(rows)


def test_draws_that_differ_widen_the_interval():
    same, wild = answers([0.5] * 20), answers([0.1, 0.9] * 10)
    widths = []
    for rows in (same, wild):
        low, high = interval_over_draws(rows, np.random.default_rng(0))
        assert low < 0.5 < high
        widths.append(high - low)
    low, high = wilson(round(wild.success.sum()), len(wild))
    assert widths[1] > 4 * (high - low) and widths[0] < 2 * (high - low)


def test_the_interval_holds_the_rate_that_all_draws_share():
    """Rates of draws spread with standard deviation .15 about .4; 20 draws on 14 keys: in 95 of 100
    such experiments it should hold .4.
    """
    held, rng = 0, np.random.default_rng(1)
    for seed in range(60):
        rows = answers(rng.normal(0.4, 0.15, 20).clip(0, 1), per_key=2, seed=seed)
        low, high = interval_over_draws(rows, np.random.default_rng(seed))
        held += low <= 0.4 <= high
    assert held >= 53


def test_a_bar_over_draws_has_their_mean_range_and_size():
    rows, shifts = answers([0.0, 1.0]), [np.eye(2), 3 * np.eye(2)]
    bar = over_draws("permuted", rows, shifts, np.ones((2, 2)))
    assert (bar.success, bar.draws, bar.n, bar.draw_range) == (0.5, 2, 196, (0.0, 1.0))
    assert bar.norm == pytest.approx(2 * np.sqrt(2)) and bar.cumulative_norm == bar.norm
    assert (bar.neurons, bar.missing) == (2, 2)
    one = over_draws("low_rho", rows[rows.draw == 1], shifts[:1], np.eye(2))
    assert one.interval == wilson(98, 98) and one.draw_range is None and one.missing == 0


def test_what_does_not_exist_is_no_rate():
    bar = Bar("unembedding_last")
    assert bar.numbers()["success"] is None
    row = bar.row(direction="m2g")
    assert np.isnan(row["success"]) and np.isnan(row["low"]) and row["direction"] == "m2g"
