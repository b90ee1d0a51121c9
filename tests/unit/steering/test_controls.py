"""Controls are as large in the same layers, and differ from the shift under test in what their name says."""

import numpy as np
import pytest
from scipy import stats

from memgen.neurons.nmd import NeuronMaps, correlation, nmd
from memgen.neurons.selection import select_top
from memgen.steering.cells import cumulative_norm, shift_vector
from memgen.steering.controls import CONTROLS, TOLERANCE, Draws, control_shifts
from planted_states import LAYERS, WIDTH, planted_pairs, states_and_labels

COHERENT = ("random_neurons", "random_direction", "random_sign")  # keep every norm exactly


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


def late_pairs(seed, n=21):
    """Pairs that differ most in the last layers, as those of trained models do: unequal layers."""
    rng = np.random.default_rng(seed)
    memory, rule = rng.normal(size=(2, n, LAYERS, WIDTH))
    return memory, rule + rng.normal(size=(LAYERS, WIDTH)) * np.arange(LAYERS)[:, None]


def layer_norms(shift):
    return np.linalg.norm(shift, axis=1)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("share", [0.02, 0.1, 0.3])
def test_controls_push_as_far_and_in_the_same_layers(seed, share):
    reference, controls, rho, nmd = reference_and_controls(*late_pairs(seed), share, seed)
    touched = reference != 0
    assert tuple(controls) == CONTROLS
    assert [len(draws) for draws in controls.values()] == [3, 3, 3, 1, 3, 3, 3]
    for name, draws in controls.items():
        for shift in draws:
            assert shift.shape == reference.shape
            far = cumulative_norm(shift) / cumulative_norm(reference)
            assert abs(far - 1) <= TOLERANCE + 1e-9, name
            if name in COHERENT:
                np.testing.assert_allclose(layer_norms(shift), layer_norms(reference))
                assert far == pytest.approx(1), name
            if name not in ("shuffled_labels", "random_direction"):  # choose otherwise, touch all
                counts = np.minimum(touched.sum(1), (~touched).sum(1))
                own = counts if name in ("other_neurons", "low_rho") else touched.sum(1)
                np.testing.assert_array_equal((shift != 0).sum(1), own, name)
                ratio = layer_norms(shift)[own > 0] / layer_norms(reference)[own > 0]
                np.testing.assert_allclose(ratio, ratio[0], err_msg=name)  # a scale for all layers
            if name in ("other_neurons", "low_rho"):
                assert not (touched & (shift != 0)).any(), name
                assert (np.sign(shift) == np.sign(rho) * (shift != 0)).all(), name
            if name in ("permuted", "random_sign"):
                assert ((shift != 0) == touched).all(), name
    for shift in controls["random_sign"]:
        np.testing.assert_array_equal(np.abs(shift), np.abs(reference))
    for shift in controls["other_neurons"]:
        for row, own in zip(shift, nmd):
            ratio = row[row != 0] / own[row != 0]
            np.testing.assert_allclose(ratio, ratio[:1].repeat(len(ratio)))


def test_controls_whose_layers_would_cancel_out_are_scaled_up():
    """A reference with the same pattern in two layers: dealt out in each layer apart, it would push
    less far.
    """
    rng = np.random.default_rng(0)
    memory = rng.normal(size=(40, 2, 64))
    rule = memory + np.tile(rng.normal(size=64), (2, 1)) + rng.normal(0, 0.1, size=(40, 2, 64))
    reference, controls, _, _ = reference_and_controls(memory, rule, share=0.5, seed=0)
    assert cumulative_norm(reference) > 1.3 * np.linalg.norm(reference)
    for shift in controls["permuted"]:
        assert np.linalg.norm(shift) > 1.2 * np.linalg.norm(reference)
        assert cumulative_norm(shift) == pytest.approx(cumulative_norm(reference))


def test_random_neurons_are_one_permutation_for_all_layers(pairs):
    reference, controls, _, _ = reference_and_controls(*pairs[:2], share=0.25, seed=0)
    columns = {tuple(column) for column in reference.T}
    for shift in controls["random_neurons"]:
        assert {tuple(column) for column in shift.T} == columns
        assert not np.array_equal(shift, reference)


def test_random_signs_are_the_same_in_all_layers(pairs):
    reference, controls, _, _ = reference_and_controls(*pairs[:2], share=0.9, seed=0)
    for shift in controls["random_sign"]:
        turned = [set(np.sign(s * r)[r != 0]) for s, r in zip(shift.T, reference.T)]
        assert all(len(signs) <= 1 for signs in turned) and {-1.0} in turned and {1.0} in turned


def test_layers_with_too_few_neurons_left_give_what_they_have():
    """The last layer is touched but for one neuron, the first one not at all."""
    rng = np.random.default_rng(0)
    memory, rule = rng.normal(size=(2, 30, 2, 8))
    rule[:, 1, :7] += 5
    reference, controls, _, _ = reference_and_controls(memory, rule, share=7 / 16, seed=0)
    assert (reference != 0).sum(1).tolist() == [0, 7]
    for name in ("other_neurons", "low_rho"):
        for shift in controls[name]:
            assert np.argwhere(shift).tolist() == [[1, 7]]
            assert np.linalg.norm(shift) == pytest.approx(np.linalg.norm(reference))


def test_low_rho_takes_the_least_correlated_and_the_reference_magnitudes(pairs):
    reference, controls, rho, nmd = reference_and_controls(*pairs[:2], share=0.25, seed=0)
    (shift,) = controls["low_rho"]
    factor = np.linalg.norm(shift) / np.linalg.norm(reference)
    for row, own, rho_row, nmd_row in zip(shift, reference, rho, nmd):
        chosen = row != 0
        assert np.abs(rho_row[chosen]).max() < np.abs(rho_row[~chosen]).min()
        np.testing.assert_allclose(
            np.sort(np.abs(row[chosen])), factor * np.sort(np.abs(own[own != 0]))
        )
        if chosen.sum() > 2:
            ranks = stats.spearmanr(np.abs(row[chosen]), np.abs(nmd_row[chosen])).statistic
            assert ranks == pytest.approx(1)


@pytest.mark.parametrize("n_pairs", [20, 21])
def test_shuffled_labels_keep_nothing_of_a_strong_difference(n_pairs):
    rng = np.random.default_rng(0)
    memory, rule = rng.normal(size=(2, n_pairs, LAYERS, WIDTH))
    rule = rule + rng.normal(
        0, 20, size=(LAYERS, WIDTH)
    )  # unbalanced swaps would leave a multiple of the reference
    reference, controls, _, _ = reference_and_controls(memory, rule, share=0.25, seed=0, n_draws=30)
    cosines = [
        np.vdot(reference, shift) / np.linalg.norm(reference) / np.linalg.norm(shift)
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


def test_controls_outside_the_reference_need_neurons_outside_and_skip_dead_ones(pairs):
    _, controls, _, _ = reference_and_controls(*pairs[:2], share=1.0, seed=0)
    assert controls["other_neurons"] == controls["low_rho"] == []
    assert len(controls["permuted"]) == 3

    memory, rule = (array.copy() for array in pairs[:2])
    memory[:, :, 4:] = rule[:, :, 4:] = 1
    _, controls, _, _ = reference_and_controls(memory, rule, share=0.1, seed=0)
    outside = controls["other_neurons"] + controls["low_rho"]
    assert len(outside) == 4 and not any(shift[:, 4:].any() for shift in outside)


def test_a_reference_of_zeros_is_refused(pairs):
    memory, rule, _ = pairs
    zero = np.zeros((LAYERS, WIDTH))
    with pytest.raises(ValueError, match="0 everywhere"):
        control_shifts(
            zero, NeuronMaps("ln_2", zero, zero), (memory, rule), np.random.default_rng()
        )


@pytest.mark.parametrize("n, most", [(300, 100), (250, 100), (7, 20), (101, 100)])
def test_draws_share_all_prompts_and_none_has_too_many(n, most):
    parts = Draws(20, most).parts(n)
    assert sorted(np.concatenate(parts)) == list(range(n))
    assert all(len(part) <= most for part in parts)
    assert all(len(set(np.diff(part))) <= 1 for part in parts)  # evenly over the keys' rows
