"""The sign-flip test keeps its level where keys are clustered, and discoveries are Benjamini-Hochberg."""

import numpy as np
import pytest
from scipy import stats

from memgen.neurons.nmd import share_by_layer
from memgen.stats.permutation import discoveries, sign_flip_test
from planted_states import planted_pairs


@pytest.fixture(scope="module")
def pairs():
    return planted_pairs()


def test_sign_flip_equals_scipy_when_every_pair_is_its_own_key():
    differences = np.random.default_rng(1).normal(0.4, 1, size=(12, 1, 4))
    p = sign_flip_test(differences, np.arange(12), n_permutations=20_000, seed=0)
    exact = stats.permutation_test(
        (differences[:, 0],),
        lambda x, axis: x.mean(axis=axis),
        permutation_type="samples",
        n_resamples=np.inf,
    )
    np.testing.assert_allclose(p[0], exact.pvalue, atol=0.012)
    assert p.min() < 0.2 < p.max()  # the comparison is not of ones


def test_sign_flip_does_not_depend_on_the_order_of_pairs_or_the_sign(pairs):
    memory, rule, keys = pairs
    order = np.random.default_rng(0).permutation(len(keys))
    p = sign_flip_test(rule - memory, keys, 200, seed=0)
    np.testing.assert_array_equal(
        p, sign_flip_test((rule - memory)[order], keys[order], 200, seed=0)
    )
    np.testing.assert_array_equal(p, sign_flip_test(memory - rule, keys, 200, seed=0))


def test_p_of_clustered_nulls_is_uniform_and_too_small_if_keys_are_ignored():
    rng = np.random.default_rng(2)
    keys = np.repeat(np.arange(30), 8)
    differences = rng.normal(size=(30, 4, 100))[keys] + 0.5 * rng.normal(size=(240, 4, 100))
    p = sign_flip_test(differences, keys, n_permutations=999, seed=0)
    assert stats.kstest(p.ravel(), "uniform").pvalue > 0.01
    assert not discoveries(p).any()

    ignored = sign_flip_test(differences, np.arange(240), n_permutations=999, seed=0)
    assert stats.kstest(ignored.ravel(), "uniform").pvalue < 1e-6
    assert discoveries(ignored).mean() > 0.2


def test_two_keys_allow_only_coarse_p():
    differences = np.ones((6, 1, 2))
    p = sign_flip_test(differences, np.repeat([0, 1], 3), n_permutations=999, seed=0)
    assert p == pytest.approx(0.5, abs=0.06)
    assert (sign_flip_test(0 * differences, np.arange(6), 99, seed=0) == 1).all()


def test_rounding_does_not_hide_equal_permutations():
    differences = np.reshape([0.1, 0.2, -0.3, 0.4], (4, 1, 1))  # sum 0.4000000000000001
    p = sign_flip_test(differences, np.arange(4), n_permutations=9999, seed=0)
    assert p.item() == pytest.approx(
        5 / 8, abs=0.02
    )  # as large in exact numbers: -0.1 - 0.2 + 0.3 + 0.4


def test_discoveries_are_benjamini_hochberg():
    p = np.array([[0.001, 0.02], [0.035, 0.9]])
    assert discoveries(p, q=0.05).tolist() == [
        [True, True],
        [True, False],
    ]  # 0.035 <= 3/4 * 0.05
    assert discoveries(p, q=0.03).tolist() == [[True, False], [False, False]]
    assert share_by_layer(discoveries(p)).tolist() == [1, 0.5]


def test_bad_input_is_named(pairs):
    memory, rule, keys = pairs
    broken = memory.copy()
    broken[3, 1, 1] = np.nan
    cases = [
        ("finite", lambda: sign_flip_test(rule - broken, keys, 9, seed=0)),
        ("keys", lambda: sign_flip_test(rule - memory, keys[:-1], 9, seed=0)),
        ("n_permutations", lambda: sign_flip_test(rule - memory, keys, 0, seed=0)),
        ("finite", lambda: discoveries(np.array([[np.nan, 0.1]]))),
        ("q must", lambda: discoveries(np.array([[0.1]]), q=5)),
    ]
    for message, call in cases:
        with pytest.raises(ValueError, match=message):
            call()
