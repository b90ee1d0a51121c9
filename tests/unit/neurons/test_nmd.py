"""A planted neuron is found by every measure, and the measures equal scipy's."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
from scipy import stats

from memgen.neurons.nmd import (
    NeuronMaps,
    correlation,
    effect_size,
    nmd,
    split_half,
    state_norm,
    top_neurons_table,
)
from memgen.stats.permutation import discoveries, sign_flip_test
from planted_states import PLANTED, planted_pairs, states_and_labels


@pytest.fixture(scope="module")
def pairs():
    return planted_pairs()


def test_planted_neuron_is_top_of_every_measure(pairs):
    memory, rule, keys = pairs
    rho = correlation(*states_and_labels(memory, rule))
    for measure in (nmd(memory, rule), effect_size(memory, rule), rho):
        assert np.unravel_index(np.abs(measure).argmax(), measure.shape) == PLANTED
        assert measure[PLANTED] > 0  # higher under the rule is positive
    p = sign_flip_test(rule - memory, keys, n_permutations=2000, seed=0)
    found = discoveries(p)
    assert found[PLANTED] and found.sum() <= 2
    table = top_neurons_table(nmd(memory, rule), rho, effect_size(memory, rule), p, found, k=4)
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
    assert nmd(memory, rule).dtype == np.float64
    assert (nmd(memory, rule) == 8).all()
    assert (nmd(rule, memory) == -8).all()


def test_the_means_of_float32_states_are_summed_in_float64():
    """3000 numbers near 1000 that float32 holds exactly: their sum it does not hold."""
    rng = np.random.default_rng(0)
    memory, rule = rng.normal(1000, 3, size=(2, 3001, 1, 4)).astype(np.float32)
    expected = [
        [sum(map(float, rule[:, 0, i])) / 3001 - sum(map(float, memory[:, 0, i])) / 3001]
        for i in range(4)
    ]
    np.testing.assert_allclose(nmd(memory, rule)[0], np.ravel(expected), rtol=0, atol=1e-9)


def test_effect_size_is_the_paired_t_over_root_n(pairs):
    memory, rule, _ = pairs
    t = stats.ttest_rel(rule, memory, axis=0).statistic
    np.testing.assert_allclose(effect_size(memory, rule) * np.sqrt(len(rule)), t, rtol=1e-4)


def test_effect_size_at_its_limits():
    memory = np.zeros((4, 1, 3))
    rule = memory + [0, 2, -2]
    assert effect_size(memory, rule).tolist() == [[0, np.inf, -np.inf]]
    single = effect_size(memory[:1], rule[:1])
    assert single.shape == (1, 3) and np.isnan(single).all()
    two = np.array([1.0, 3.0]).reshape(2, 1, 1)
    assert effect_size(np.zeros_like(two), two).item() == pytest.approx(2**0.5)


def test_neurons_that_never_differ_have_no_effect_in_any_layer():
    """Every second neuron of every second layer is the same in both prompts."""
    rng = np.random.default_rng(1)
    memory, rule = rng.normal(size=(2, 6, 8, 400)) + 5
    rule[:, 1::2, ::2] = memory[:, 1::2, ::2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = effect_size(memory, rule)
    assert (found[1::2, ::2] == 0).all()
    assert np.count_nonzero(found == 0) == 4 * 200


def noisy_differences(size: float, n_keys: int = 12, width: int = 200) -> tuple:
    """Differences [n, 2, width] of keys that resemble themselves; layer 1 has NMD of this size."""
    rng = np.random.default_rng(4)
    of_key = rng.normal(size=(n_keys, 2, width))
    differences = of_key.repeat(5, axis=0) + rng.normal(size=(n_keys * 5, 2, width))
    differences[:, 1] += size * rng.choice([-1, 1], width)
    return differences, np.repeat(np.arange(n_keys), 5)


def test_split_halves_of_the_keys_take_out_the_bias_of_noise():
    differences, keys = noisy_differences(0.5)
    plain = np.abs(differences.mean(axis=0)).mean(axis=1)
    found = split_half(differences, keys, np.random.default_rng(0))
    assert plain[0] > 0.2 and abs(found[0]) < 0.12  # nothing is there, and noise looks like size
    assert found[1] == pytest.approx(0.5, abs=0.06)
    # pairs of one key share its noise: taken apart one by one it would stay
    by_pair = split_half(differences, np.arange(len(keys)), np.random.default_rng(0))
    assert by_pair[0] > 0.2


def test_split_halves_lie_on_both_sides_of_nothing():
    rng = np.random.default_rng(0)
    keys = np.repeat(np.arange(8), 3)
    found = [split_half(rng.normal(size=(24, 1, 30)), keys, rng)[0] for _ in range(60)]
    assert 15 < sum(value < 0 for value in found) < 55
    assert np.mean(np.sign(found) * np.square(found)) == pytest.approx(0, abs=0.01)


def test_split_halves_weigh_pairs_and_need_two_keys():
    """Where all pairs differ alike any halves give that difference, whatever the keys' sizes."""
    differences = np.full((7, 1, 3), 2.0)
    keys = np.array(["a"] * 5 + ["b", "c"])
    assert split_half(differences, keys, np.random.default_rng(0)).tolist() == [2.0]
    assert split_half(-differences, keys, np.random.default_rng(0)).tolist() == [2.0]  # a size
    assert np.isnan(split_half(differences[:5], keys[:5], np.random.default_rng(0))).all()


def test_two_keys_are_a_half_each():
    """One deal is possible: the product of the two keys' means, averaged over neurons."""
    differences = np.array([[1.0, 2], [3, 2], [4, -1], [7, 8], [1, -1]])[:, None]
    keys = np.array([5, 5, 9, 9, 9])
    expected = np.sqrt((2 * 4 + 2 * 2) / 2)  # means 2, 2 of one key and 4, 2 of the other
    found = split_half(differences, keys, np.random.default_rng(0))
    assert found.tolist() == pytest.approx([expected])
    opposite = np.array([[[1.0]], [[-4.0]]])
    assert split_half(opposite, np.array([0, 1]), np.random.default_rng(0)).tolist() == [-2.0]


def test_the_norm_of_a_layer_is_the_mean_length_of_its_states():
    memory, rule = np.zeros((2, 2, 4)), np.zeros((2, 2, 4))
    memory[:, 1, 0], rule[:, 1, :] = 1.0, 1.5  # lengths 1 and 3
    assert state_norm(memory, rule).tolist() == [0, 2]


def test_rho_equals_scipy(pairs):
    states, labels = states_and_labels(*pairs[:2])
    states, labels = states[:97], labels[:97]  # unbalanced
    rho = correlation(states, labels)
    for layer, neuron in [(0, 0), (1, 7), PLANTED]:
        expected = stats.pointbiserialr(labels, states[:, layer, neuron]).statistic
        assert rho[layer, neuron] == pytest.approx(expected, abs=1e-6)


def test_constant_neuron_has_no_rho(pairs):
    states, labels = states_and_labels(*pairs[:2])
    states, labels = states[:97].astype(np.float64), labels[:97]
    states[:, 1, 3] = 0.1
    assert states[:, 1].mean(axis=0)[3] != 0.1  # so its computed variance is not 0
    rho = correlation(states, labels)
    assert rho[1, 3] == 0 and np.count_nonzero(rho == 0) == 1


def test_rho_does_not_ask_how_loud_a_neuron_is(pairs):
    states, labels = states_and_labels(*pairs[:2])
    for scale in (1e-6, 1e6):
        quiet_or_loud = correlation(states.astype(np.float64) * scale, labels)
        np.testing.assert_allclose(quiet_or_loud, correlation(states, labels), rtol=1e-9)


def test_a_neuron_too_quiet_to_be_squared_has_no_rho():
    labels = np.array([0, 1, 0, 1])
    states = (1e-200 * labels)[:, None, None]  # it varies, but 1e-400 is 0
    assert correlation(states, labels).tolist() == [[0.0]]


def test_rounding_takes_no_rho_beyond_one():
    """Straight lines in the label: rho is 1 or -1, and some are rounded to more."""
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, 97)
    slopes, levels = rng.normal(size=(2, 400))
    states = (labels[:, None] * slopes + levels)[:, None]
    x, y = states[:, 0] - states[:, 0].mean(axis=0), labels - labels.mean()
    plain = (y @ x) / np.sqrt((x * x).sum(axis=0) * (y @ y))
    assert plain.max() > 1 and plain.min() < -1  # what the limit is for
    rho = correlation(states, labels)[0]
    assert rho.max() == 1 and rho.min() == -1
    np.testing.assert_allclose(rho, np.sign(slopes), rtol=1e-12)


def test_top_neurons_of_equal_rho_go_by_layer_and_index():
    """Of 3 layers of 200 neurons all are alike but one; 20 are shown where no number is asked for."""
    rho = np.full((3, 200), -0.5)
    rho[1, ::2] = 0.5  # the size counts
    rho[2, 7] = 0.6
    flat = np.zeros_like(rho)
    table = top_neurons_table(rho, rho, flat, flat, flat > 0)
    assert list(zip(table.layer, table.neuron)) == [(2, 7)] + [(0, i) for i in range(19)]
    longer = top_neurons_table(rho, rho, flat, flat, flat > 0, k=301)
    assert list(zip(longer.layer[201:], longer.neuron[201:])) == [(1, i) for i in range(100)]


def test_on_balanced_pairs_rho_and_nmd_agree_in_sign(pairs):
    memory, rule, _ = pairs
    assert (
        np.sign(correlation(*states_and_labels(memory, rule))) == np.sign(nmd(memory, rule))
    ).all()


def test_maps_are_kept_under_the_names_that_they_are_read_by(pairs):
    memory, rule, _ = pairs
    maps = NeuronMaps.between("ln_2", memory, rule)
    assert (maps.nmd == nmd(memory, rule)).all()
    assert (maps.rho == correlation(*states_and_labels(memory, rule))).all()
    again = NeuronMaps.of(maps.arrays() | {"nmd.mlp_out": 0 * maps.nmd}, "ln_2")
    assert (again.nmd == maps.nmd).all() and (again.rho == maps.rho).all()


def test_bad_input_is_named(pairs):
    memory, rule, _ = pairs
    broken = memory.copy()
    broken[3, 1, 1] = np.nan
    ones_and_zeros = np.arange(len(memory)) % 2
    cases = [
        ("one shape", lambda: nmd(memory, rule[:-1])),
        ("^there are no pairs: .* both behaviours show$", lambda: nmd(memory[:0], rule[:0])),
        ("^hidden states must be finite", lambda: nmd(broken, rule)),
        ("^hidden states must be finite", lambda: nmd(rule, broken)),
        ("^hidden states must be finite", lambda: correlation(broken, ones_and_zeros)),
        ("both 0 and 1", lambda: correlation(memory, np.zeros(len(memory)))),
        (
            r"^correlation: labels must hold both 0 and 1, and only them, got \[0 1 2 3 4\]$",
            lambda: correlation(memory, np.arange(len(memory))),
        ),
        (r"labels \[n\] needed, got", lambda: correlation(memory, np.zeros(3))),
        (r"labels \[n\] needed, got", lambda: correlation(memory, np.array([0, 1, 1]))),
        (r"states \[n, L, d\] .* needed, got", lambda: correlation(memory[:, 0], ones_and_zeros)),
    ]
    for message, call in cases:
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize(
    "module", ["neurons.nmd", "neurons.nulls", "neurons.selection", "stats.permutation"]
)
def test_import_pulls_in_nothing_heavy(module):
    heavy = "torch transformers sklearn scipy pandas"
    code = (
        f"import sys, memgen.{module}; print(*[m for m in '{heavy}'.split() if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
