"""Planted neurons are found, nulls stay null, statistics equal scipy's, controls are of equal size."""

import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from memgen.neurons import nmd as nmd_room
from memgen.neurons import nulls, selection
from memgen.stats import permutation
from memgen.steering import cells
from memgen.steering import controls as controls_room

LAYERS, WIDTH = 3, 16
PLANTED = (2, 5)


@pytest.fixture(scope="module")
def pairs():
    """60 pairs of 20 keys with one neuron, layer 2 index 5, that is higher when the rule answers."""
    rng = np.random.default_rng(0)
    memory, rule = rng.normal(size=(2, 60, LAYERS, WIDTH)).astype(np.float32)
    rule[(slice(None), *PLANTED)] += 3
    return memory, rule, np.repeat(np.arange(20), 3)


def states_and_labels(memory, rule):
    return np.concatenate([memory, rule]), np.repeat([0, 1], len(memory))


# -- effect ----------------------------------------------------------------------------------------


def test_planted_neuron_is_top_of_every_measure(pairs):
    memory, rule, keys = pairs
    rho = nmd_room.correlation(*states_and_labels(memory, rule))
    for measure in (nmd_room.nmd(memory, rule), nmd_room.effect_size(memory, rule), rho):
        assert np.unravel_index(np.abs(measure).argmax(), measure.shape) == PLANTED
        assert measure[PLANTED] > 0  # higher under the rule is positive
    p = permutation.sign_flip_test(rule - memory, keys, n_permutations=2000, seed=0)
    found = permutation.discoveries(p)
    assert found[PLANTED] and found.sum() <= 2
    table = nmd_room.top_neurons_table(
        nmd_room.nmd(memory, rule), rho, nmd_room.effect_size(memory, rule), p, found, k=4
    )
    assert list(table.columns) == [
        "layer",
        "neuron",
        "nmd",
        "rho",
        "effect_size",
        "p",
        "significant",
    ]
    assert len(table) == 4 and (table.layer[0], table.neuron[0]) == PLANTED and table.significant[0]
    assert table.rho.abs().is_monotonic_decreasing


def test_nmd_is_the_mean_difference_in_float64():
    memory = np.full((3, 1, 2), 1e8, dtype=np.float32)
    rule = memory + np.float32(8)
    assert nmd_room.nmd(memory, rule).dtype == np.float64
    assert (nmd_room.nmd(memory, rule) == 8).all()
    assert (nmd_room.nmd(rule, memory) == -8).all()


def test_effect_size_is_the_paired_t_over_root_n(pairs):
    memory, rule, _ = pairs
    t = stats.ttest_rel(rule, memory, axis=0).statistic
    np.testing.assert_allclose(
        nmd_room.effect_size(memory, rule) * np.sqrt(len(rule)), t, rtol=1e-4
    )


def test_effect_size_at_its_limits():
    memory = np.zeros((4, 1, 3))
    rule = memory + [0, 2, -2]
    assert nmd_room.effect_size(memory, rule).tolist() == [[0, np.inf, -np.inf]]
    assert np.isnan(nmd_room.effect_size(memory[:1], rule[:1])).all()


def test_rho_equals_scipy(pairs):
    states, labels = states_and_labels(*pairs[:2])
    states, labels = states[:97], labels[:97]  # unbalanced
    rho = nmd_room.correlation(states, labels)
    for layer, neuron in [(0, 0), (1, 7), PLANTED]:
        expected = stats.pointbiserialr(labels, states[:, layer, neuron]).statistic
        assert rho[layer, neuron] == pytest.approx(expected, abs=1e-6)


def test_constant_neuron_has_no_rho(pairs):
    states, labels = states_and_labels(*pairs[:2])
    states, labels = states[:97].astype(np.float64), labels[:97]
    states[:, 1, 3] = 0.1
    assert states[:, 1].mean(axis=0)[3] != 0.1  # so its computed variance is not 0
    rho = nmd_room.correlation(states, labels)
    assert rho[1, 3] == 0 and np.count_nonzero(rho == 0) == 1


def test_on_balanced_pairs_rho_and_nmd_agree_in_sign(pairs):
    memory, rule, _ = pairs
    assert (
        np.sign(nmd_room.correlation(*states_and_labels(memory, rule)))
        == np.sign(nmd_room.nmd(memory, rule))
    ).all()


# -- test ------------------------------------------------------------------------------------------


def test_sign_flip_equals_scipy_when_every_pair_is_its_own_key():
    differences = np.random.default_rng(1).normal(0.4, 1, size=(12, 1, 4))
    p = permutation.sign_flip_test(differences, np.arange(12), n_permutations=20_000, seed=0)
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
    p = permutation.sign_flip_test(rule - memory, keys, 200, seed=0)
    np.testing.assert_array_equal(
        p, permutation.sign_flip_test((rule - memory)[order], keys[order], 200, seed=0)
    )
    np.testing.assert_array_equal(p, permutation.sign_flip_test(memory - rule, keys, 200, seed=0))


def test_p_of_clustered_nulls_is_uniform_and_too_small_if_keys_are_ignored():
    rng = np.random.default_rng(2)
    keys = np.repeat(np.arange(30), 8)
    differences = rng.normal(size=(30, 4, 100))[keys] + 0.5 * rng.normal(size=(240, 4, 100))
    p = permutation.sign_flip_test(differences, keys, n_permutations=999, seed=0)
    assert stats.kstest(p.ravel(), "uniform").pvalue > 0.01
    assert not permutation.discoveries(p).any()

    ignored = permutation.sign_flip_test(differences, np.arange(240), n_permutations=999, seed=0)
    assert stats.kstest(ignored.ravel(), "uniform").pvalue < 1e-6
    assert permutation.discoveries(ignored).mean() > 0.2


def test_two_keys_allow_only_coarse_p():
    differences = np.ones((6, 1, 2))
    p = permutation.sign_flip_test(differences, np.repeat([0, 1], 3), n_permutations=999, seed=0)
    assert p == pytest.approx(0.5, abs=0.06)
    assert (permutation.sign_flip_test(0 * differences, np.arange(6), 99, seed=0) == 1).all()


def test_rounding_does_not_hide_equal_permutations():
    differences = np.reshape([0.1, 0.2, -0.3, 0.4], (4, 1, 1))  # sum 0.4000000000000001
    p = permutation.sign_flip_test(differences, np.arange(4), n_permutations=9999, seed=0)
    assert p.item() == pytest.approx(
        5 / 8, abs=0.02
    )  # as large in exact numbers: -0.1 - 0.2 + 0.3 + 0.4


def test_discoveries_are_benjamini_hochberg():
    p = np.array([[0.001, 0.02], [0.035, 0.9]])
    assert permutation.discoveries(p, q=0.05).tolist() == [
        [True, True],
        [True, False],
    ]  # 0.035 <= 3/4 * 0.05
    assert permutation.discoveries(p, q=0.03).tolist() == [[True, False], [False, False]]
    assert nmd_room.share_by_layer(permutation.discoveries(p)).tolist() == [1, 0.5]


def test_same_behavior_nulls_are_null_and_expose_a_drift():
    rng = np.random.default_rng(3)
    memory, rule = rng.normal(size=(2, 80, LAYERS, WIDTH))
    rule[:, 1] += 2  # rephrasing moves all of layer 1 in the rule-rule pairs
    keys = np.repeat(np.arange(40), 2)
    table = nulls.same_behavior_nulls(memory, keys, rule, keys, n_permutations=2000, seed=0)
    share = table.pivot(index="layer", columns="behavior", values="significant_share")
    assert share["memorization"].max() <= 0.1
    assert share.loc[1, ["generalization", "both"]].tolist() == [1, 1]
    assert share.loc[[0, 2], "generalization"].max() <= 0.2
    n_pairs = table.groupby("behavior").n_pairs.first()
    assert n_pairs.to_dict() == {"both": 160, "generalization": 80, "memorization": 80}
    assert (table.n_keys == 40).all()
    size = table[table.behavior == "generalization"].mean_abs_nmd
    assert size.argmax() == 1

    fewer = nulls.same_behavior_nulls(
        memory, keys, rule[:0], keys[:0], n_permutations=99, seed=0, max_pairs=30
    )
    assert fewer.groupby("behavior").n_pairs.first().to_dict() == {
        "both": 30,
        "generalization": 0,
        "memorization": 30,
    }
    assert fewer[fewer.behavior == "generalization"].significant_share.isna().all()


# -- selection -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "count"), [(1e-9, 1), (0.07, 7), (0.071, 8), (0.1, 10), (1, 100), (1.0, 100)]
)
def test_select_top_takes_the_ceiling(share, count):
    score = np.random.default_rng(0).normal(size=(4, 25))
    mask = selection.select_top(score, share)
    assert mask.sum() == count
    if count < 100:
        assert np.abs(score[mask]).min() > np.abs(score[~mask]).max()


def test_ties_go_to_the_lower_layer_then_index():
    mask = selection.select_top(np.array([[1, -1, 0], [2, 1, 1]]), 0.5)
    assert mask.tolist() == [[True, True, False], [True, False, False]]


@pytest.mark.parametrize("share", [0, -0.1, 1.01, float("nan"), float("inf"), None, "many"])
def test_bad_share_names_top_n(share):
    with pytest.raises(ValueError, match="top_n"):
        selection.select_top(np.ones((2, 2)), share)


def test_shift_has_the_sign_of_rho_and_the_size_of_nmd():
    shift = cells.shift_vector(
        np.array([[2.0, -3, 4]]), np.array([[-0.1, 0.2, 0.3]]), np.array([[True, True, False]])
    )
    assert shift.tolist() == [[-2, 3, 0]]


# -- controls --------------------------------------------------------------------------------------


def reference_and_controls(memory, rule, share, seed, n_draws=3):
    rho, nmd = nmd_room.correlation(*states_and_labels(memory, rule)), nmd_room.nmd(memory, rule)
    mask = selection.select_top(rho, share)
    reference = cells.shift_vector(nmd, rho, mask)
    rng = np.random.default_rng(seed)
    return (
        reference,
        controls_room.control_shifts(reference, nmd, rho, memory, rule, rng=rng, n_draws=n_draws),
        rho,
        nmd,
    )


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_controls_have_the_same_number_of_neurons_and_norm(seed, share):
    memory, rule = np.random.default_rng(seed).normal(size=(2, 21, LAYERS, WIDTH))
    reference, controls, rho, nmd = reference_and_controls(memory, rule, share, seed)
    touched = reference != 0
    assert tuple(controls) == controls_room.CONTROLS
    assert [len(draws) for draws in controls.values()] == [3, 3, 1, 3, 3, 3]
    for name, draws in controls.items():
        for shift in draws:
            assert shift.shape == reference.shape
            assert np.count_nonzero(shift) == touched.sum(), name
            assert np.linalg.norm(shift) == pytest.approx(np.linalg.norm(reference)), name
            if name in ("random_neurons", "other_neurons", "low_rho"):
                assert not (touched & (shift != 0)).any(), name
            if name in ("other_neurons", "low_rho"):
                assert (np.sign(shift) == np.sign(rho) * (shift != 0)).all(), name
            if name in ("permuted", "random_sign"):
                assert ((shift != 0) == touched).all(), name
    for shift in controls["permuted"]:
        np.testing.assert_array_equal(np.sort(shift[touched]), np.sort(reference[touched]))
    for shift in controls["random_sign"]:
        np.testing.assert_array_equal(np.abs(shift), np.abs(reference))
    for shift in controls["random_neurons"]:
        np.testing.assert_array_equal(np.sort(shift[shift != 0]), np.sort(reference[touched]))
    for shift in controls["other_neurons"]:
        ratio = shift[shift != 0] / nmd[shift != 0]
        np.testing.assert_allclose(ratio, ratio[0])


def test_low_rho_takes_the_least_correlated_and_the_reference_magnitudes(pairs):
    reference, controls, rho, nmd = reference_and_controls(*pairs[:2], share=0.25, seed=0)
    (shift,) = controls["low_rho"]
    chosen = shift != 0
    assert np.abs(rho[chosen]).max() < np.abs(rho[~chosen]).min()
    np.testing.assert_array_equal(
        np.sort(np.abs(shift[chosen])), np.sort(np.abs(reference[reference != 0]))
    )
    assert stats.spearmanr(np.abs(shift[chosen]), np.abs(nmd[chosen])).statistic == pytest.approx(1)


@pytest.mark.parametrize("n_pairs", [20, 21])
def test_shuffled_labels_keep_nothing_of_a_strong_difference(n_pairs):
    rng = np.random.default_rng(0)
    memory, rule = rng.normal(size=(2, n_pairs, LAYERS, WIDTH))
    rule = rule + rng.normal(
        0, 20, size=(LAYERS, WIDTH)
    )  # unbalanced swaps would leave a multiple of the reference
    reference, controls, _, _ = reference_and_controls(memory, rule, share=0.25, seed=0, n_draws=30)
    cosines = [
        np.vdot(reference, shift) / np.vdot(reference, reference)
        for shift in controls["shuffled_labels"]
    ]
    assert np.abs(cosines).max() < 0.6
    assert abs(np.mean(cosines)) < 0.3


def test_controls_are_reproducible_and_draws_differ(pairs):
    _, first, _, _ = reference_and_controls(*pairs[:2], share=0.25, seed=7)
    _, again, _, _ = reference_and_controls(*pairs[:2], share=0.25, seed=7)
    _, fewer, _, _ = reference_and_controls(*pairs[:2], share=0.25, seed=7, n_draws=1)
    for name in controls_room.CONTROLS:
        np.testing.assert_array_equal(first[name], again[name])
        np.testing.assert_array_equal(first[name][0], fewer[name][0])
        assert name == "low_rho" or not np.array_equal(first[name][0], first[name][1])


def test_controls_outside_the_reference_do_not_exist_above_half_and_skip_dead_neurons(pairs):
    _, controls, _, _ = reference_and_controls(*pairs[:2], share=0.6, seed=0)
    assert controls["random_neurons"] == controls["other_neurons"] == controls["low_rho"] == []
    assert len(controls["permuted"]) == 3

    memory, rule = (array.copy() for array in pairs[:2])
    memory[:, 0] = rule[:, 0] = 1
    _, controls, _, _ = reference_and_controls(memory, rule, share=0.25, seed=0)
    assert not any(
        shift[0].any()
        for shift in controls["random_neurons"] + controls["other_neurons"] + controls["low_rho"]
    )


# -- bad input -------------------------------------------------------------------------------------


def test_bad_input_is_named(pairs):
    memory, rule, keys = pairs
    broken = memory.copy()
    broken[3, 1, 1] = np.nan
    zero = np.zeros((LAYERS, WIDTH))
    cases = [
        ("one shape", lambda: nmd_room.nmd(memory, rule[:-1])),
        ("no pairs", lambda: nmd_room.nmd(memory[:0], rule[:0])),
        ("finite", lambda: nmd_room.nmd(broken, rule)),
        ("finite", lambda: permutation.sign_flip_test(rule - broken, keys, 9, seed=0)),
        ("keys", lambda: permutation.sign_flip_test(rule - memory, keys[:-1], 9, seed=0)),
        ("n_permutations", lambda: permutation.sign_flip_test(rule - memory, keys, 0, seed=0)),
        ("both 0 and 1", lambda: nmd_room.correlation(memory, np.zeros(len(memory)))),
        ("labels", lambda: nmd_room.correlation(memory, np.zeros(3))),
        ("finite", lambda: permutation.discoveries(np.array([[np.nan, 0.1]]))),
        ("q must", lambda: permutation.discoveries(np.array([[0.1]]), q=5)),
        ("finite", lambda: selection.select_top(np.array([[np.nan, 1]]), 0.5)),
        ("shapes differ", lambda: cells.shift_vector(zero, zero, zero[:1])),
        (
            "0 everywhere",
            lambda: controls_room.control_shifts(
                zero, zero, zero, memory, rule, rng=np.random.default_rng()
            ),
        ),
    ]
    for message, call in cases:
        with pytest.raises(ValueError, match=message):
            call()


def test_import_pulls_in_nothing_heavy():
    heavy = "torch transformers sklearn scipy pandas"
    code = (
        f"import sys, memgen.differentiation; print(*[m for m in '{heavy}'.split() if m in"
        " sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == ""
    )
