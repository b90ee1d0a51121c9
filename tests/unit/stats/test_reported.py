"""Numbers as a `result.json` holds them: undefined ones are None, never nan; and the same in words."""

import json

import numpy as np
import pandas as pd
import pytest

from memgen.stats.columns import columns, interval_pairs, numbers
from memgen.stats.intervals import (
    NAN,
    Bootstrap,
    bootstrap_by_key,
    interval,
    weighted_mean,
    wilson,
)
from memgen.stats.reported import between, by_key, ends, known_rate, rate, shown


def test_a_rate_has_its_interval_and_n():
    found = rate(np.array([[True, False], [True, True]]), "success")
    assert found == {"success": 0.75, "interval": list(wilson(3, 4)), "n": 4}
    assert known_rate(0.75, 4, "success") == found
    nothing = {"share": None, "interval": None, "n": 0}
    assert rate([]) == known_rate(None, 4) == known_rate(0.5, 0) == nothing


def test_a_statistic_over_keys_is_none_where_undefined():
    keys, values = np.repeat(np.arange(6), 3), np.arange(18.0)
    found = by_key(weighted_mean, keys, values, seed=0)
    assert found["value"] == 8.5 and (found["n"], found["n_keys"]) == (18, 6)
    assert found["interval"][0] < 8.5 < found["interval"][1]
    one = by_key(weighted_mean, keys[:3], values[:3], seed=0)
    assert one == {"value": 1.0, "interval": None, "n": 3, "n_keys": 1}
    none = by_key(weighted_mean, keys[:0], values[:0], seed=0)
    assert none == {"value": None, "interval": None, "n": 0, "n_keys": 0}
    json.dumps([found, one, none], allow_nan=False)


def test_columns_and_back():
    wide, unknown = Bootstrap(0.5, 0.25, 0.75, 9, 0), Bootstrap(NAN, NAN, NAN, 0, 0)
    assert ends(wide) == [0.25, 0.75] and ends(unknown) == [None, None]
    table = pd.DataFrame([columns(auc=wide), columns(auc=unknown)])
    assert list(table) == ["auc", "auc_low", "auc_high"]
    assert numbers(table.auc) == [0.5, None]
    assert interval_pairs(table, "auc") == [[0.25, 0.75], [None, None]]
    assert numbers([None, np.inf, np.float32(0.5), 2]) == [None, None, 0.5, 2.0]


def test_no_row_gives_no_interval():
    nothing = interval(weighted_mean, np.array([]), np.array([]), seed=0, n_resamples=9)
    assert np.isnan(nothing[:3]).all() and nothing.n_keys == 0


def test_numbers_in_words():
    assert shown(0.256) == "0.26" and shown(0.5, ".0%") == "50%"
    assert shown(-np.inf) == "-inf"  # as a threshold may be
    assert shown(None) == "undefined" and shown(None, none="none") == "none"


def test_intervals_in_words():
    assert between([0.1, None]) == "[0.10, undefined]" and between(None) == "[undefined, undefined]"
    assert between([0.25, 0.5], ".0%") == "[25%, 50%]"
    assert between([-np.inf, np.inf]) == "[-inf, inf]"
    assert between((None, 1.0), "+.1f", "?") == "[?, +1.0]"


@pytest.mark.filterwarnings("error")
def test_a_rate_of_nothing_gives_no_warning():
    assert rate(np.array([]), "success") == {"success": None, "interval": None, "n": 0}


def test_an_interval_over_keys_follows_its_seed():
    keys, values = np.arange(20), np.random.default_rng(0).normal(size=20)
    first, again, other = (by_key(weighted_mean, keys, values, seed=seed) for seed in (3, 3, 4))
    assert first == again and first["interval"] != other["interval"]
    reference = bootstrap_by_key(weighted_mean, keys, values, seed=3, weighted=True)
    assert first["interval"] == [reference.low, reference.high]
