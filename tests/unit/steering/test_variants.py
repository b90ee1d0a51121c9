"""A variant of a shift differs in one ingredient and keeps the norm."""

from __future__ import annotations

import numpy as np
import pytest

from memgen.steering.variants import (
    by_count,
    by_layer,
    by_magnitude,
    by_ranking,
    p_ranking,
    rankings,
    rescaled,
)


@pytest.fixture
def maps():
    """A random reference of 12 neurons, NMD and rho, 3 layers x 8."""
    rng = np.random.default_rng(1)
    nmd = rng.normal(0, 1, (3, 8))
    rho = np.sign(nmd) * rng.uniform(0.1, 0.9, (3, 8))
    chosen = np.abs(rho) >= np.sort(np.abs(rho), axis=None)[-12]
    return np.where(chosen, 2 * nmd, 0), nmd, rho


def test_every_variant_has_the_norm_of_the_whole(maps):
    reference, nmd, rho = maps
    norm, rng = np.linalg.norm(reference), np.random.default_rng(0)
    scores = rankings(
        nmd, {"effect_size": rng.normal(size=nmd.shape), "p": rng.uniform(size=nmd.shape)}, rho
    )
    groups = [
        by_layer(reference),
        by_count(nmd, rho, norm, [1, 5, 20], 3, rng),
        by_ranking(nmd, rho, 0.5, norm, scores),
        by_magnitude(reference, nmd, nmd),
    ]
    draws = [one for group in groups for draws in group.values() for one in draws]
    assert len(draws) == 6 + (3 + 9 + 1) + 3 + 3
    np.testing.assert_allclose([np.linalg.norm(one) for one in draws], norm)


def test_a_layer_alone_and_all_but_it_are_the_two_parts_of_the_shift(maps):
    reference = maps[0]
    found = by_layer(reference)
    names = ("layer_{}_only", "all_but_layer_{}")
    assert list(found) == [name.format(k) for name in names for k in (1, 2, 3)]
    for k in (1, 2, 3):
        (only,), (others,) = found[f"layer_{k}_only"], found[f"all_but_layer_{k}"]
        rows = np.arange(3) == k - 1
        assert not only[~rows].any() and not others[rows].any()
        assert ((only != 0) | (others != 0)).sum() == (reference != 0).sum()
        assert (np.sign(only[rows]) == np.sign(reference[rows])).all()


def test_a_layer_without_chosen_neurons_has_no_shift(maps):
    reference = maps[0] * (np.arange(3) == 1)[:, None]
    found = by_layer(reference)
    assert found["layer_1_only"] == found["layer_3_only"] == found["all_but_layer_2"] == []
    np.testing.assert_allclose(found["layer_2_only"][0], reference)
    np.testing.assert_allclose(found["all_but_layer_1"][0], reference)


def test_counts_take_the_largest_rho_and_draws_grow(maps):
    _, nmd, rho = maps
    found = by_count(nmd, rho, 1.0, [1, 5, 24, 99], 2, np.random.default_rng(0))
    for count in (1, 5):
        (ranked,) = found[f"n_{count}"]
        assert set(np.flatnonzero(ranked)) == set(np.argsort(-np.abs(rho), axis=None)[:count])
        assert [np.count_nonzero(one) for one in found[f"random_{count}"]] == [count, count]
    assert found["n_24"] == found["n_99"] == found["random_24"] == []  # all coordinates are `all`
    assert np.count_nonzero(found["all"][0]) == 24
    for small, large in zip(found["random_1"], found["random_5"]):
        assert set(np.flatnonzero(small)) < set(np.flatnonzero(large))
        np.testing.assert_array_equal(np.sign(large), np.where(large != 0, np.sign(nmd), 0))
    assert (found["random_5"][0] != 0).tolist() != (found["random_5"][1] != 0).tolist()


def test_neurons_that_never_differ_are_not_drawn(maps):
    _, nmd, rho = maps
    nmd = np.where(np.arange(24).reshape(3, 8) < 4, nmd, 0)
    found = by_count(nmd, rho, 1.0, [3, 10], 5, np.random.default_rng(0))
    assert (
        all(np.flatnonzero(one).max() < 4 for one in found["random_3"]) and found["random_10"] == []
    )


def test_neurons_that_tell_behaviours_apart_perfectly_are_drawn_and_those_that_do_not_are_not():
    nmd, rho = np.ones((2, 4)), np.array([[1.0, -1.0, 0.0, 1.0], [0.0, 1.0, -1.0, 0.5]])
    drawn = by_count(nmd, rho, 1.0, [6, 7], 3, np.random.default_rng(0))
    assert len(drawn["random_6"]) == 3 and drawn["random_7"] == []  # six differ at all
    for one in drawn["random_6"]:
        assert ((one != 0) == (rho != 0)).all()


def test_rankings_have_their_names_and_are_missing_where_the_tests_are(maps):
    _, nmd, rho = maps
    rng = np.random.default_rng(2)
    tests = {"effect_size": rng.normal(size=nmd.shape), "p": rng.uniform(size=nmd.shape)}
    found = rankings(nmd, tests, rho)
    assert list(found) == ["abs_nmd", "effect_size", "smallest_p"]
    assert found["abs_nmd"] is nmd and found["effect_size"] is tests["effect_size"]
    np.testing.assert_array_equal(found["smallest_p"], p_ranking(tests["p"], rho))
    none = rankings(nmd, {}, rho)
    assert none == {"abs_nmd": nmd, "effect_size": None, "smallest_p": None}
    shifts = by_ranking(nmd, rho, 0.5, 1.0, none)
    assert shifts["effect_size"] == shifts["smallest_p"] == []
    (largest,) = shifts["abs_nmd"]
    assert set(np.flatnonzero(largest)) == set(np.argsort(-np.abs(nmd), axis=None)[:12])


def test_p_ranks_the_smallest_first_and_rho_breaks_ties():
    p, rho = (
        np.array([[0.5, 0.01, 0.01], [0.2, 0.01, 1.0]]),
        np.array([[0.9, 0.1, -0.8], [0.3, 0.5, 0.99]]),
    )
    assert np.argsort(-p_ranking(p, rho), axis=None).tolist() == [2, 4, 1, 3, 0, 5]


def test_magnitudes_keep_the_neurons(maps):
    reference, nmd, _ = maps
    weights = np.random.default_rng(5).normal(size=nmd.shape)
    found = {name: draws[0] for name, draws in by_magnitude(reference, nmd, weights).items()}
    chosen = reference != 0
    assert (
        len(set(np.abs(found["constant"][chosen]).round(9))) == 1
        and (np.sign(found["constant"]) == np.sign(reference)).all()
    )
    assert not found["probe_weight"][~chosen].any()
    np.testing.assert_allclose(
        found["probe_weight"][chosen] / weights[chosen],
        (found["probe_weight"] / weights)[chosen][0],
    )
    assert np.corrcoef(found["dense_difference"].ravel(), nmd.ravel())[0, 1] == pytest.approx(1)


@pytest.mark.parametrize("values, norm", [(np.zeros((2, 3)), 1.0), (np.ones((2, 3)), 0.0)])
def test_nothing_has_no_direction(values, norm):
    assert rescaled(values, norm) == []
