"""Rates of several draws: how sure one is of them depends on draws and keys, not on the answers alone."""

import numpy as np
import pandas as pd
import pytest

from memgen.stats.draws import resampled
from memgen.stats.intervals import wilson
from memgen.steering.bars import Bar, interval_over_draws, over_draws
from memgen.terms import CODE, TARGET


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


def test_the_interval_weighs_every_answer_as_its_draw_and_its_key_are_drawn():
    """Draws that share the prompts: no draw was run on all keys. The reference goes through the
    answers one by one, and has no table with gaps in it.
    """
    rows = answers([0.2, 0.5, 0.9, 0.4], n_keys=6, per_key=3)
    rows = rows[(rows.key + rows.draw) % 2 == 0].reset_index(drop=True)
    rng = np.random.default_rng(0)
    by_draw, by_key = resampled(4, rng), resampled(6, rng)
    weight = by_draw[:, rows.draw] * by_key[:, rows.key]  # [resamples, answers]
    drawn = weight.sum(axis=1) > 0
    rates = (weight @ rows.success)[drawn] / weight.sum(axis=1)[drawn]
    expected = np.percentile(rates, [2.5, 97.5])
    np.testing.assert_allclose(interval_over_draws(rows, np.random.default_rng(0)), expected)
    shifts = [np.eye(2)] * 4
    for _ in range(2):  # the bar's interval is the same in every run
        np.testing.assert_allclose(
            over_draws("permuted", rows, shifts, np.eye(2)).interval, expected
        )


def test_a_bar_over_draws_has_its_name_and_its_share_of_other_answers():
    rows = answers([0.0, 0.0], n_keys=2, per_key=2)
    rows.loc[[0, 1, 4], "other"] = True
    for stack, chosen in (([np.eye(2)] * 2, rows), ([np.eye(2)], rows[rows.draw == 0])):
        bar = over_draws("random_sign", chosen, stack, np.eye(2))
        assert (bar.name, bar.success, bar.n) == ("random_sign", 0.0, 4 * len(stack))
        assert bar.other == {2: 3 / 8, 1: 2 / 4}[len(stack)]


def test_a_row_of_a_table_names_both_ends_of_interval_and_range():
    codes = np.array([TARGET["m2g"], TARGET["m2g"], CODE["other"], TARGET["g2m"]])
    bar = Bar.of("steered", codes, "m2g", np.array([[3.0, 0.0], [0.0, -4.0]]))
    low, high = wilson(2, 4)
    row = bar.row(site="ln_2")
    assert {name: row.pop(name) for name in ("lowest", "highest")} == pytest.approx(
        {"lowest": np.nan, "highest": np.nan}, nan_ok=True
    )
    assert row == {
        "name": "steered",
        "success": 0.5,
        "other": 0.25,
        "n": 4,
        "draws": 1,
        "norm": 5.0,
        "cumulative_norm": 5.0,
        "neurons": 2,
        "missing": 0.0,
        "low": low,
        "high": high,
        "site": "ln_2",
    }
    ranged = Bar("permuted", draw_range=(0.25, 0.75)).row()
    assert (ranged["lowest"], ranged["highest"]) == (0.25, 0.75) and np.isnan(ranged["high"])
