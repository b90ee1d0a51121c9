"""Controls are as large in the same layers, and differ from the shift under test in what their name says."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from memgen.neurons.nmd import NeuronMaps, correlation, nmd
from memgen.neurons.selection import select_top
from memgen.steering.cells import Cell, cumulative_norm, shift_vector
from memgen.steering.controls import CONTROLS, TOLERANCE, Draws, control_shifts, controls
from memgen.steering.trial import Trial
from memgen.terms import CODE, DIRECTIONS, SIGN, START, TARGET
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
    for shift in controls["shuffled_labels"]:  # as many neurons, wherever, and exactly as far
        assert np.count_nonzero(shift) == touched.sum()
        assert cumulative_norm(shift) == pytest.approx(cumulative_norm(reference), rel=1e-12)
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


def test_controls_that_push_about_as_far_keep_the_norms_of_the_layers():
    """Values dealt out anew in each layer keep its norm; they are rescaled only if their sum over
    the layers then is more than a tenth longer or shorter, and if it is, to the reference's.
    """
    seen = {True: 0, False: 0}
    for seed in range(12):
        memory, rule = late_pairs(seed)
        reference, drawn, _, _ = reference_and_controls(memory, 5 * rule, share=0.3, seed=seed)
        goal = cumulative_norm(reference)
        assert goal > 10
        for shift in drawn["permuted"]:
            factor = layer_norms(shift)[-1] / layer_norms(reference)[-1]
            dealt = cumulative_norm(shift) / factor
            near = bool(abs(dealt - goal) <= TOLERANCE * goal)
            assert factor == pytest.approx(1 if near else goal / dealt, rel=1e-9)
            assert near or cumulative_norm(shift) == pytest.approx(goal)
            seen[near] += 1
    assert min(seen.values()) > 4  # both cases occur


def test_controls_of_a_reference_whose_layers_cancel_out_keep_the_norms_of_its_layers():
    """It pushes nowhere in sum, so there is no length to be given to a control."""
    reference = np.zeros((2, 16))
    reference[:, :6] = np.outer([1, -1], [1, 2, 4, 8, 16, 32])
    memory, rule = np.random.default_rng(0).normal(size=(2, 10, 2, 16))
    maps = NeuronMaps("ln_2", nmd(memory, rule), correlation(*states_and_labels(memory, rule)))
    assert cumulative_norm(reference) == 0
    found = control_shifts(reference, maps, (memory, rule), np.random.default_rng(2), 3)
    for shift in found["permuted"] + found["other_neurons"] + found["low_rho"]:
        np.testing.assert_allclose(layer_norms(shift), layer_norms(reference))


def test_maps_in_single_precision_give_the_controls_of_the_same_maps_in_double():
    memory, rule = late_pairs(0)
    rho = correlation(*states_and_labels(memory, rule)).astype(np.float32)
    difference = nmd(memory, rule).astype(np.float32)
    reference = shift_vector(difference, rho, select_top(rho, 0.1)).astype(np.float32)
    single, double = (
        control_shifts(
            reference.astype(kind),
            NeuronMaps("ln_2", difference.astype(kind), rho.astype(kind)),
            (memory, rule),
            np.random.default_rng(3),
        )
        for kind in (np.float32, np.float64)
    )
    for name in CONTROLS:
        assert len(single[name]) == 1, name  # one draw unless more are asked for
        np.testing.assert_array_equal(single[name], double[name], err_msg=name)


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


def test_neurons_of_equal_difference_take_the_magnitudes_in_their_order():
    """So a control is the same on every machine: sorting may break ties as it likes."""
    width, n = 600, 200
    reference, rho = np.zeros((1, width)), np.full((1, width), 0.5)
    reference[0, :n] = np.random.default_rng(0).permutation(n) + 1.0
    difference = 1.0 + np.arange(width)[None] % 2  # 1, 2, 1, 2, ...
    maps = NeuronMaps("ln_2", difference, rho)
    pairs = np.random.default_rng(0).normal(size=(2, 4, 1, width))
    found = control_shifts(reference, maps, tuple(pairs), np.random.default_rng(0))
    chosen = found["low_rho"][0][0, n : 2 * n]  # the first ones outside, as all correlate alike
    np.testing.assert_allclose(chosen[::2], np.arange(100) + 1.0)
    np.testing.assert_allclose(chosen[1::2], np.arange(100) + 101.0)


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


@pytest.mark.parametrize("seed", range(5))
def test_shuffled_labels_of_mere_noise_are_brought_to_the_very_norm_of_the_reference(seed):
    """They are about as long as it is, but not for that reason left as they are."""
    memory, rule = np.random.default_rng(seed).normal(size=(2, 20, LAYERS, WIDTH))
    reference, found, _, _ = reference_and_controls(memory, rule, share=0.5, seed=seed, n_draws=5)
    for shift in found["shuffled_labels"]:
        assert cumulative_norm(shift) == pytest.approx(cumulative_norm(reference), rel=1e-12)
        assert np.count_nonzero(shift) == np.count_nonzero(reference)


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
    with pytest.raises(ValueError, match="^control_shifts: .*0 everywhere$"):
        control_shifts(
            zero, NeuronMaps("ln_2", zero, zero), (memory, rule), np.random.default_rng()
        )


def test_maps_of_other_shapes_are_refused_and_all_shapes_named(pairs):
    maps = NeuronMaps("ln_2", np.ones((2, 7)), np.ones((2, 9)))
    with pytest.raises(ValueError, match="control_shifts") as error:
        control_shifts(np.ones((2, 8)), maps, pairs[:2], np.random.default_rng(0))
    for shape in ("(2, 8)", "(2, 7)", "(2, 9)", f"(60, {LAYERS}, {WIDTH})"):
        assert shape in str(error.value)


def test_pairs_that_do_not_differ_have_no_shuffled_labels_and_say_so(pairs):
    memory, ones = pairs[0], np.ones((LAYERS, WIDTH))
    message = "^a control shift is 0 everywhere.* norm: too few or identical pairs$"
    with pytest.raises(ValueError, match=message):
        control_shifts(
            ones, NeuronMaps("ln_2", ones, ones), (memory, memory), np.random.default_rng(0)
        )


def test_the_labels_of_a_single_pair_cannot_be_shuffled(pairs):
    memory, rule = (states[:1] for states in pairs[:2])
    _, found, _, _ = reference_and_controls(memory, rule, share=0.25, seed=0)
    assert {name: len(draws) for name, draws in found.items()} == dict(
        zip(CONTROLS, [3, 3, 3, 1, 3, 3, 0])
    )


@pytest.mark.parametrize("n, most", [(300, 100), (250, 100), (7, 20), (101, 100)])
def test_draws_share_all_prompts_and_none_has_too_many(n, most):
    parts = Draws(20, most).parts(n)
    assert sorted(np.concatenate(parts)) == list(range(n))
    assert all(len(part) <= most for part in parts)
    assert all(len(set(np.diff(part))) <= 1 for part in parts)  # evenly over the keys' rows


class Answering:
    """A steering whose answers are given: a prompt that looks at neuron `axis` is turned where the
    (signed) shift points the direction's way there, is answered by something else where it points
    the other way, and stays as it was where the shift is small. `asked`: the draws and prompts of
    every run, row by row.
    """

    def __init__(self, maps, direction):
        self.maps, self.direction, self.asked = maps, direction, []

    def shift(self, cell):
        return cell.alpha * shift_vector(
            self.maps.nmd, self.maps.rho, select_top(self.maps.rho, cell.top_n)
        )

    def sweep(self, signed, rows):
        self.signed, self.axis = signed, rows.axis.to_numpy()
        return SimpleNamespace(codes=self._rows)

    def _rows(self, which, prompts):
        self.asked.append((which.tolist(), prompts.tolist()))
        rows = zip(self.signed[which.numpy()], self.axis[prompts.numpy()])
        return torch.tensor([int(self.codes(shift, axis)) for shift, axis in rows])

    def codes(self, signed, axis):
        push = SIGN[self.direction] * signed.sum(axis=0)[axis]
        turned, broken = TARGET[self.direction], CODE["other"]
        stays = CODE[START[self.direction]]
        return np.where(push > 0.1, turned, np.where(push < -0.1, broken, stays))


def trial_of(pairs, direction, n_prompts, share=0.4, rho=None):
    """On prompts of 5 keys, each prompt looking at one neuron."""
    memory, rule = pairs
    rho = correlation(*states_and_labels(memory, rule)) if rho is None else rho
    steering = Answering(NeuronMaps("ln_2", nmd(memory, rule), rho), direction)
    of = np.arange(n_prompts)
    rows = pd.DataFrame({"prompt": of, "key": of % 5, "axis": of % WIDTH}, index=of + 1000)
    return Trial(steering, direction, Cell(share, 1.5), rows)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("n_draws", [1, 2, 5])
def test_every_draw_of_a_control_is_answered_on_its_share_of_the_prompts(direction, n_draws):
    """48 prompts, at most 24 of them for a draw: even draws get the even prompts, odd ones the odd.
    A control of a single draw is run on all of them.
    """
    pairs = late_pairs(1)
    trial = trial_of(pairs, direction, 48)
    bars, answers = controls(trial, pairs, Draws(n_draws, 24), np.random.default_rng(4))
    shifts = control_shifts(
        trial.shift, trial.steering.maps, pairs, np.random.default_rng(4), n_draws
    )
    expected = []
    for name, stack in shifts.items():
        for draw, shift in enumerate(stack):
            part = trial.rows if len(stack) == 1 else trial.rows[draw % 2 :: 2]
            codes = trial.steering.codes(SIGN[direction] * shift, part.axis.to_numpy())
            about = {"direction": direction, "kind": name, "draw": draw, "key": part.key}
            turned = {"success": codes == TARGET[direction], "other": codes == CODE["other"]}
            expected.append(pd.DataFrame(about | turned))
    order = ["kind", "draw"]  # within a draw the prompts keep their order
    pd.testing.assert_frame_equal(
        answers.sort_values(order, kind="stable", ignore_index=True),
        pd.concat(expected).sort_values(order, kind="stable", ignore_index=True),
    )
    assert answers.index.tolist() == list(range(len(answers)))
    assert 0.1 < answers.success.mean() < 0.9 and answers.other.any()

    assert tuple(bar.name for bar in bars) == CONTROLS
    for bar in bars:
        own, stack = answers[answers.kind == bar.name], shifts[bar.name]
        assert (bar.n, bar.draws) == (len(own), len(stack))
        assert (bar.success, bar.other) == (own.success.mean(), own.other.mean())
        assert bar.norm == pytest.approx(np.mean([np.linalg.norm(shift) for shift in stack]))
        moved = np.mean([np.count_nonzero(shift) for shift in stack])
        assert bar.missing == max(0, np.count_nonzero(trial.shift) - moved)
    assert any(bar.missing for bar in bars)  # the last layer has too few neurons left


def test_all_draws_of_all_controls_are_run_together_and_no_prompt_is_left_out():
    pairs = late_pairs(1)
    trial = trial_of(pairs, "m2g", 31)
    controls(trial, pairs, Draws(7, 10), np.random.default_rng(0))
    ((which, prompts),) = trial.steering.asked
    asked = [[p for w, p in zip(which, prompts) if w == draw] for draw in range(max(which) + 1)]
    shares = [list(range(start, 31, 4)) for start in (0, 0, 1, 1, 2, 2, 3)]
    assert asked == [*shares * 3, list(range(31)), *shares * 3]  # low_rho: one draw


def test_a_control_that_does_not_exist_has_no_bar_and_the_others_have_theirs():
    """No neuron outside the reference is correlated, and a single pair has no labels to shuffle."""
    pairs = tuple(states[:1] for states in late_pairs(1))
    rho = np.zeros((LAYERS, WIDTH))
    rho[1, 2:6] = [0.9, -0.8, 0.7, 0.6]
    trial = trial_of(pairs, "m2g", 20, share=4 / 48, rho=rho)
    bars, answers = controls(trial, pairs, Draws(2, 10), np.random.default_rng(0))
    assert [bar.name for bar in bars] == list(answers.kind.unique())
    assert [bar.name for bar in bars] == [
        "random_neurons",
        "random_direction",
        "permuted",
        "random_sign",
    ]
