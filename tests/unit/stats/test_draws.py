"""A mean over draws and keys: the interval holds both sources of chance."""

from __future__ import annotations

import numpy as np
import pytest

from memgen.stats.draws import crossed_interval, mean_over_draws


def test_the_mean_is_the_mean():
    values = np.arange(12).reshape(3, 4)
    found = mean_over_draws(values, np.array(list("aabc")), seed=0)
    assert found["value"] == values.mean()
    assert (found["n"], found["n_keys"], found["draws"]) == (4, 3, 3)
    assert found["interval"][0] < found["value"] < found["interval"][1]


@pytest.mark.parametrize("of", ["draws", "keys"])
def test_the_interval_covers_what_varies(of):
    """Draws (or keys) differ with a spread of 1, nothing else does: about 95 of 100 hold 0."""
    rng, n, held = np.random.default_rng(1), 20, 0
    for trial in range(100):
        effects = rng.normal(size=n)
        values = np.tile(effects, (30, 1))  # [draws, keys]
        if of == "draws":
            values = np.tile(effects[:, None], (1, 30))
        low, high = mean_over_draws(values, np.arange(values.shape[1]), trial, 300)["interval"]
        held += low <= 0 <= high
    assert 86 <= held <= 99


def test_what_cannot_be_known_is_none():
    nothing = {"value": None, "interval": None, "n": 0, "n_keys": 0, "draws": 2}
    assert mean_over_draws(np.empty((2, 0)), np.array([]), seed=0) == nothing
    assert mean_over_draws(np.ones((2, 3)), np.array(list("aaa")), seed=0)["interval"] is None
    with pytest.raises(ValueError, match="is not"):
        mean_over_draws(np.ones((2, 3)), np.array(["a"]), seed=0)


def test_the_interval_follows_its_seed_and_the_number_of_resamples():
    values, keys = np.random.default_rng(0).normal(size=(5, 12)), np.arange(12)
    first, again, other = (mean_over_draws(values, keys, seed)["interval"] for seed in (3, 3, 4))
    assert first == again != other
    low, high = mean_over_draws(values, keys, 0, n_resamples=1)["interval"]
    assert low == high  # a single resample has no width


def test_answers_right_and_wrong_are_counted_as_0_and_1():
    """Also where one key has several right answers in a draw."""
    right = np.random.default_rng(0).random((6, 24)) < 0.6
    keys = np.repeat(np.arange(8), 3)
    assert mean_over_draws(right, keys, 0) == mean_over_draws(right.astype(float), keys, 0)


def test_two_keys_have_an_interval():
    """Draws agree, keys are 0 and 1: a resample holds one of them twice in half of all cases."""
    found = mean_over_draws(np.tile([0.0, 1.0], (3, 1)), np.array(["a", "b"]), seed=0)
    assert found["value"] == 0.5 and found["interval"] == [0.0, 1.0]


def test_resamples_without_a_value_are_left_out_and_those_with_one_are_not():
    """Each of two draws was run on one key only."""
    sums, counts = np.diag([3.0, 5.0]), np.diag([1.0, 1.0])
    by_draw = np.array([[1, 0], [1, 1], [2, 0]], float)
    by_key = np.array([[1, 1], [1, 1], [0, 2]], float)  # the last: draw 0 on key 1, never run
    low, high = crossed_interval(sums, counts, by_draw, by_key)
    assert (low, high) == pytest.approx(np.quantile([3.0, 4.0], [0.025, 0.975]))
    assert np.isnan(crossed_interval(sums, counts, by_draw[2:], by_key[2:])).all()
