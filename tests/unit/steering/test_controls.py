"""Controls are of equal size, and differ from the shift under test in what their name says."""

import numpy as np
import pytest
from scipy import stats

from memgen.neurons.nmd import NeuronMaps, correlation, nmd
from memgen.neurons.selection import select_top
from memgen.steering.cells import shift_vector
from memgen.steering.controls import CONTROLS, control_shifts
from planted_states import LAYERS, WIDTH, planted_pairs, states_and_labels


@pytest.fixture(scope="module")
def pairs():
    return planted_pairs()


def reference_and_controls(memory, rule, share, seed, n_draws=3):
    """The shift of the top `share` of the neurons, its controls, and the maps behind them."""
    rho, mean_difference = correlation(*states_and_labels(memory, rule)), nmd(memory, rule)
    reference = shift_vector(mean_difference, rho, select_top(rho, share))
    maps, rng = NeuronMaps("resid_post", mean_difference, rho), np.random.default_rng(seed)
    controls = control_shifts(reference, maps, (memory, rule), rng, n_draws)
    return reference, controls, rho, mean_difference


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_controls_have_the_same_number_of_neurons_and_norm(seed, share):
    memory, rule = np.random.default_rng(seed).normal(size=(2, 21, LAYERS, WIDTH))
    reference, controls, rho, nmd = reference_and_controls(memory, rule, share, seed)
    touched = reference != 0
    assert tuple(controls) == CONTROLS
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
    for name in CONTROLS:
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


def test_a_reference_of_zeros_is_refused(pairs):
    memory, rule, _ = pairs
    zero = np.zeros((LAYERS, WIDTH))
    with pytest.raises(ValueError, match="0 everywhere"):
        control_shifts(
            zero, NeuronMaps("ln_2", zero, zero), (memory, rule), np.random.default_rng()
        )
