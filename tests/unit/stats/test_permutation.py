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
    shapes = r"^sign_flip_test: differences \[n, L, d\] and keys \[n\] with n > 0 needed, got "
    cases = [
        ("^differences must be finite", lambda: sign_flip_test(rule - broken, keys, 9, seed=0)),
        (shapes, lambda: sign_flip_test(rule - memory, keys[:-1], 9, seed=0)),
        (shapes + r"\(60, 16\)", lambda: sign_flip_test(rule[:, 0], keys, 9, seed=0)),
        (shapes + r"\(0, 3, 16\)", lambda: sign_flip_test(rule[:0], keys[:0], 9, seed=0)),
        ("n_permutations", lambda: sign_flip_test(rule - memory, keys, 0, seed=0)),
        ("^p-values must be finite", lambda: discoveries(np.array([[np.nan, 0.1]]))),
        ("q must", lambda: discoveries(np.array([[0.1]]), q=5)),
        ("q must", lambda: discoveries(np.array([[0.1]]), q=1)),
        ("q must", lambda: discoveries(np.array([[0.1]]), q=0)),
    ]
    for message, call in cases:
        with pytest.raises(ValueError, match=message):
            call()


def test_one_pair_and_one_permutation_are_enough_to_be_tested():
    """A single sign, flipped or not, is as extreme as it was."""
    assert sign_flip_test(np.ones((1, 2, 3)), np.zeros(1), 99, seed=0).tolist() == [[1] * 3] * 2
    assert sign_flip_test(np.ones((1, 1, 1)), np.zeros(1), 1, seed=0).item() == 1
    one_of_two = sign_flip_test(np.ones((30, 1, 1)), np.arange(30), 1, seed=0)
    assert one_of_two.item() == 1 / 2  # not all 30 signs agree, so only the data count


def test_every_block_of_permutations_counts():
    """So many neurons that the permutations are done 16 at a time: each has the p of one alone."""
    differences = np.random.default_rng(5).normal(0.5, 1, size=(6, 1, 1))
    alone = sign_flip_test(differences, np.arange(6), 100, seed=0).item()
    many = sign_flip_test(np.tile(differences, 2**17), np.arange(6), 100, seed=0)
    assert many.shape == (1, 2**17) and 0.05 < alone < 0.9
    assert np.unique(many).tolist() == [alone]


def test_neither_the_unit_of_a_neuron_nor_its_neighbours_change_its_p():
    differences = np.random.default_rng(6).normal(0.5, 1, size=(12, 1, 1))
    keys = np.arange(12)
    alone = sign_flip_test(differences, keys, 200, seed=0)
    assert alone.item() < 0.5
    assert sign_flip_test(differences * 2.0**-40, keys, 200, seed=0) == alone
    beside_large = np.concatenate([differences, differences * 2.0**60], axis=2)
    assert (sign_flip_test(beside_large, keys, 200, seed=0) == alone).all()


def test_states_of_single_precision_are_summed_in_double():
    """Each key's sum is 1, and all of 8 keys agree; single precision would make every sum 0."""
    differences = np.tile(np.float32([1e8, 1, -1e8]), 8).reshape(24, 1, 1)
    p = sign_flip_test(differences, np.repeat(np.arange(8), 3), 4999, seed=0)
    assert p.item() == pytest.approx(2 / 2**8, abs=0.005)


def test_a_p_at_its_limit_is_a_discovery():
    assert discoveries(np.array([[0.25]]), q=0.25).all()
    assert discoveries(np.array([[0.25, 0.5, 1.0, 1.0]]), q=0.5).sum() == 0  # 0.25 > 1/4 * 0.5
    assert discoveries(np.array([[0.125, 0.25, 1.0, 1.0]]), q=0.5).sum() == 2  # 0.25 = 2/4 * 0.5
