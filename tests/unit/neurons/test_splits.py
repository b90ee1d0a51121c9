"""A random split leaks the key, a split by key does not."""

from __future__ import annotations

import numpy as np
import pytest

from memgen.neurons.probes import Examples
from memgen.neurons.splits import compare_splits, fold_numbers, held_out_scores

N_KEYS, PER_KEY, WIDTH = 24, 10, 6


def keyed_states(rng, leak: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One layer in which either the key alone shows (each key prefers a behaviour, `leak`) or the
    behaviour alone.
    """
    keys = np.repeat(np.arange(N_KEYS), PER_KEY)
    prefers = rng.permutation(np.tile([0.15, 0.85], N_KEYS // 2))
    labels = (rng.random(len(keys)) < (prefers[keys] if leak else 0.5)).astype(int)
    states = rng.normal(size=(len(keys), 1, 30))
    states += (
        2.0 * rng.normal(size=(N_KEYS, 1, 30))[keys]
    )  # whose key it is, in a random direction each
    if not leak:
        states[:, 0, 0] += 6.0 * labels
    return states, labels, keys


def test_a_random_split_leaks_the_key_and_a_split_by_key_does_not():
    states, labels, keys = keyed_states(np.random.default_rng(0), leak=True)
    result, table = compare_splits(Examples(states, labels, keys), seed=0, n_resamples=100)
    assert result["random_best"] > 0.75 and result["by_key_best"] < 0.65
    assert (
        result["leak"] == pytest.approx(result["random"][0] - result["by_key"][0])
        and result["leak_interval"][0] > 0.05
    )
    assert (table.n == len(labels)).all() and (table.n_keys == N_KEYS).all()
    assert compare_splits(Examples(states, labels, keys), seed=0, n_resamples=100)[0] == result


def test_without_a_leak_both_splits_agree():
    result, _ = compare_splits(
        Examples(*keyed_states(np.random.default_rng(0), leak=False)), seed=0, n_resamples=100
    )
    assert result["by_key_best"] > 0.85 and abs(result["leak"]) < 0.06


def test_shuffled_labels_leave_nothing_in_either_split():
    rng = np.random.default_rng(3)
    states, labels, keys = keyed_states(rng, leak=True)
    result, _ = compare_splits(
        Examples(states, rng.permutation(labels), keys), seed=0, n_resamples=10
    )
    assert abs(result["random"][0] - 0.5) < 0.12 and abs(result["by_key"][0] - 0.5) < 0.12


def test_folds_hold_whole_keys_or_random_prompts_and_never_what_was_fitted():
    keys = np.repeat(np.arange(12), 10)
    labels = np.tile([0, 1], 60)
    by_key, random = (fold_numbers(labels, keys, 0, by_key=by_key) for by_key in (True, False))
    assert set(by_key) == set(random) == set(range(5))
    assert (
        all(len(set(by_key[keys == key])) == 1 for key in range(12))
        and max(len(set(random[keys == key])) for key in range(12)) > 2
    )
    x = np.random.default_rng(0).normal(size=(120, 3))
    scores, changed = held_out_scores(x, labels, random), labels.copy()
    changed[random == 0] = 1 - changed[random == 0]
    again = held_out_scores(x, changed, random)
    np.testing.assert_array_equal(
        scores[random == 0], again[random == 0]
    )  # labels of a fold do not enter its own scores
    assert (scores[random == 1] != again[random == 1]).any()


def test_two_keys_make_two_folds_and_one_key_none():
    keys, labels = np.repeat(["a", "b"], 4), np.tile([0, 1], 4)
    by_key, random = (fold_numbers(labels, keys, 0, by_key=by_key) for by_key in (True, False))
    assert set(by_key) == set(random) == {0, 1}
    assert by_key[0] != by_key[4] and len(set(by_key[:4])) == len(set(by_key[4:])) == 1
    for by_key in (True, False):
        assert fold_numbers(labels[:4], keys[:4], 0, by_key=by_key).tolist() == [-1] * 4


def test_layers_count_from_one_and_the_best_is_the_one_that_tells():
    """Of three layers the second holds the behaviour."""
    rng = np.random.default_rng(5)
    keys, labels = np.repeat(np.arange(10), 6), rng.integers(0, 2, 60)
    states = rng.normal(size=(60, 3, 4))
    states[:, 1, 0] += 6.0 * labels
    result, table = compare_splits(Examples(states, labels, keys), seed=0, n_resamples=20)
    assert table.layer.tolist() == [1, 2, 3]
    assert result["best_layer"] == 2 and result["n_keys"] == 10 and result["n"] == 60
    assert result["by_key_best"] == result["by_key"][1] > 0.95 > result["by_key"][0]
    assert result["random_best"] == result["random"][1]
    assert result["leak_interval"] == [table.leak_low[1], table.leak_high[1]]


@pytest.mark.parametrize(
    "labels, keys", [([], []), ([0, 1, 1], ["a"] * 3), ([1] * 6, list("aabbcc"))]
)
def test_splits_survive_no_prompts_one_key_and_one_behaviour(labels, keys):
    result, _ = compare_splits(
        Examples(np.zeros((len(labels), 2, 3)), np.array(labels, dtype=int), np.array(keys)),
        seed=0,
        n_resamples=10,
    )
    assert (
        result["by_key"] == result["random"] == [None, None]
        and result["leak"] is None
        and result["best_layer"] is None
    )
    assert result["n"] == len(labels)
