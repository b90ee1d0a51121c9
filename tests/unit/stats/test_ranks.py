"""Rank correlation against scipy's, and a p that counts groups and not their rows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from memgen.stats.ranks import dealt_anew, spearman


def test_it_is_scipys_also_with_ties():
    rng = np.random.default_rng(0)
    for _ in range(20):
        x, y = rng.integers(0, 5, 12), rng.normal(size=12)
        assert spearman(x, y) == pytest.approx(spearmanr(x, y).statistic)


@pytest.mark.parametrize("pair", [([1, 2, 3], [1, 2, 3]), ([1, 1, 1, 1], [1, 2, 3, 4]), ([], [])])
def test_it_is_undefined_for_few_or_equal_values(pair):
    assert np.isnan(spearman(*map(np.array, pair)))


def test_as_few_pairs_as_are_asked_for_are_enough():
    assert spearman([1, 2, 3], [10, 20, 15], 3) == pytest.approx(0.5)
    assert np.isnan(spearman([1, 2], [1, 2], 3)) and np.isnan(spearman([1, 1, 1], [1, 2, 3], 3))


def test_rows_of_a_group_are_no_evidence_of_their_own():
    """Five groups in order have p = 1/120, however many rows each of them has."""
    groups = np.repeat(np.arange(5), 40)
    found = dealt_anew(groups + 0.0, 2.0 * groups, groups, most=1000, seed=0)
    assert found["value"] == pytest.approx(1) and found["p"] == pytest.approx(1 / 120)
    turned = dealt_anew(-groups + 0.0, 2.0 * groups, groups, most=1000, seed=0)
    assert turned["p"] == 1.0


def test_many_groups_are_dealt_by_chance_and_p_is_never_0():
    groups = np.arange(9)
    found = dealt_anew(groups + 0.0, groups + 0.0, groups, most=200, seed=0)
    assert found["p"] == pytest.approx(1 / 201)
    assert np.isnan(dealt_anew(groups[:3], groups[:3], groups[:3], most=10, seed=0)["p"])
