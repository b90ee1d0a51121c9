"""A planted neuron is found by every measure, and the measures equal scipy's."""

import subprocess
import sys

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


def test_effect_size_is_the_paired_t_over_root_n(pairs):
    memory, rule, _ = pairs
    t = stats.ttest_rel(rule, memory, axis=0).statistic
    np.testing.assert_allclose(effect_size(memory, rule) * np.sqrt(len(rule)), t, rtol=1e-4)


def test_effect_size_at_its_limits():
    memory = np.zeros((4, 1, 3))
    rule = memory + [0, 2, -2]
    assert effect_size(memory, rule).tolist() == [[0, np.inf, -np.inf]]
    assert np.isnan(effect_size(memory[:1], rule[:1])).all()
    two = np.array([1.0, 3.0]).reshape(2, 1, 1)
    assert effect_size(np.zeros_like(two), two).item() == pytest.approx(2**0.5)


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
    cases = [
        ("one shape", lambda: nmd(memory, rule[:-1])),
        ("no pairs", lambda: nmd(memory[:0], rule[:0])),
        ("finite", lambda: nmd(broken, rule)),
        ("both 0 and 1", lambda: correlation(memory, np.zeros(len(memory)))),
        ("labels", lambda: correlation(memory, np.zeros(3))),
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
