"""Curves with planted truths: what survives every choice, a fluke of one, a choice that is everything."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest

from memgen.stats.intervals import bootstrap_by_key, weighted_mean
from memgen.stats.specifications import (
    Counted,
    drawn_keys,
    ends,
    explained,
    sixteen,
    summary,
)

FOUR = {"ranking": ("rho", "nmd", "auc", "t"), "layers": ("all", "upper", "one")}
TWO = {"site": ("a", "b"), "pairs": ("order", "content"), "positions": ("all", "decision")}
FACTORS = ["a", "b", "c"]


def crossed(effect) -> pd.DataFrame:
    """All combinations of three choices; `effect(a, b, c)` is known to within a hundredth."""
    rows = [
        dict(zip(FACTORS, levels)) | {"effect": effect(*levels)}
        for levels in product(range(2), range(3), range(4))
    ]
    table = pd.DataFrame(rows)
    return table.assign(low=table.effect - 0.01, high=table.effect + 0.01)


def test_every_level_meets_every_other_equally_often():
    rows = pd.DataFrame(sixteen(FOUR, TWO))
    assert len(rows) == 16 and rows.iloc[0].tolist() == ["rho", "all", "a", "order", "all"]
    for one, other in product(rows.columns, rows.columns):
        if one != other:
            shares = pd.crosstab(rows[one], rows[other], normalize="index")
            assert (shares - shares.iloc[0]).abs().max().max() < 1e-12, (one, other)
    assert rows.layers.value_counts().to_dict() == {"all": 8, "upper": 4, "one": 4}


def test_a_factor_of_too_many_levels_is_refused():
    with pytest.raises(ValueError, match="factor site has 3 levels, and its column has 2"):
        sixteen({}, {"site": ("a", "b", "c")})
    with pytest.raises(ValueError, match="room for 2 and 3 factors"):
        sixteen(dict.fromkeys("abc", ("x",)), {})


def test_an_effect_that_survives_everything():
    found = summary(crossed(lambda a, b, c: 0.3), FACTORS)
    assert found["positive"] == found["share"] == 1.0 and found["reversed"] == 0.0
    assert found["median"] == found["worst"] == found["book"] == pytest.approx(0.3)
    assert found["largest"] is None  # nothing differs, so nothing matters


def test_a_fluke_of_one_specification_is_seen_as_one():
    found = summary(crossed(lambda a, b, c: 0.5 if (a, b, c) == (0, 0, 0) else -0.005), FACTORS)
    assert found["book"] == 0.5  # who took this road alone would have found it
    assert found["share"] == pytest.approx(1 / 24) and found["median"] == pytest.approx(-0.005)
    assert found["explained"]["together"] > 0.5  # no single choice makes it


def test_a_choice_that_is_everything_has_all_of_the_variance():
    found = summary(crossed(lambda a, b, c: [0.2, -0.2][a]), FACTORS)
    assert found["largest"] == "a"
    assert found["explained"] == pytest.approx({"a": 1, "b": 0, "c": 0, "together": 0}, abs=1e-12)
    assert found["levels"]["a"]["0"] == {"n": 12, "median": 0.2, "share": 1.0}
    assert found["reversed"] == 0.5


def test_shares_of_crossed_choices_are_those_of_an_analysis_of_variance():
    """Planted sizes: the variance of a sum of independent choices is the sum of theirs."""
    table = crossed(lambda a, b, c: 0.4 * a + 0.1 * b + 0.05 * c)
    parts = [np.var([0, 0.4]), np.var([0, 0.1, 0.2]), np.var([0, 0.05, 0.1, 0.15])]
    found = explained(table, FACTORS)
    assert [found[name] for name in FACTORS] == pytest.approx(np.array(parts) / sum(parts))
    assert found["together"] == pytest.approx(0, abs=1e-12)


def test_undefined_specifications_are_counted_and_left_out():
    table = crossed(lambda a, b, c: np.nan if a else 0.1)
    found = summary(table, FACTORS)
    assert (found["n_specifications"], found["n_defined"], found["share"]) == (24, 12, 1.0)
    nothing = summary(table.assign(effect=np.nan, low=np.nan, high=np.nan), FACTORS)
    assert nothing["n_defined"] == 0 and nothing["share"] is None and nothing["largest"] is None


def test_intervals_are_those_of_the_bootstrap_over_keys():
    """The same draws of keys as `bootstrap_by_key`, for many specifications at once."""
    rng = np.random.default_rng(1)
    keys = np.repeat(np.arange(9), 4)
    success = rng.integers(0, 2, (3, len(keys))).astype(float)
    member = np.eye(9)[keys]
    counted = Counted(success @ member, member.sum(0))
    found = ends(counted.rates(drawn_keys(9, 300, seed=5)), 9)
    for row, one in zip(success, found.itertuples()):
        wanted = bootstrap_by_key(weighted_mean, keys, row, seed=5, n_resamples=300, weighted=True)
        assert (one.effect, one.low, one.high) == pytest.approx(wanted[:3])


def test_a_key_without_a_prompt_has_no_rate():
    rates = Counted(np.array([[0.0, 2.0]]), np.array([0.0, 4.0])).rates(np.array([[1, 0], [1, 1]]))
    assert np.isnan(rates[0, 0]) and rates[1, 0] == 0.5


def test_one_key_shows_no_spread():
    found = ends(Counted(np.array([[3.0]]), np.array([4.0])).rates(drawn_keys(1, 20, 0)), 1)
    assert found.effect[0] == 0.75 and found[["low", "high"]].isna().all(axis=None)
