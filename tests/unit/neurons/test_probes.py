"""Planted directions are read, shuffled ones are not, AUC equals sklearn's, no key leaks."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from memgen.neurons.baselines import baselines, prompt_scores
from memgen.neurons.probes import (
    fit_probes,
    probe_arrays,
    probe_by_layer,
    probe_scores,
    refuse_shared_keys,
)
from memgen.stats.auc import best_threshold, roc_auc

LAYERS, WIDTH, PER_KEY = 2, 24, 6


def prompts(n_keys, first_key, seed):
    """States whose layer 1 holds the label along a fixed direction; layer 0 is noise. Keys of one
    split.
    """
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, size=n_keys * PER_KEY)
    keys = np.array([f"key{first_key + i}" for i in range(n_keys)]).repeat(PER_KEY)
    states = rng.normal(size=(len(labels), LAYERS, WIDTH)).astype(np.float32)
    direction = np.random.default_rng(99).normal(size=WIDTH)
    states[:, 1] += np.outer(2 * labels - 1, direction)
    return states, labels, keys


@pytest.fixture(scope="module")
def data():
    return *prompts(30, 0, seed=0), *prompts(25, 100, seed=1)


# -- probes ----------------------------------------------------------------------------------------


def test_planted_direction_is_read_in_its_layer_only(data):
    table = probe_by_layer(*data, seed=0)
    noise, planted = table.iloc[0], table.iloc[1]
    assert planted.auc > 0.99 and planted.accuracy > 0.95 and planted.cv_auc > 0.99
    assert planted.auc_low > 0.97
    assert planted.c > noise.c  # the penalty is as strong as the noise asks for
    chance = 0.046  # standard deviation of the AUC of a probe on noise, from 150 draws of this data
    assert abs(noise.auc - 0.5) < 3 * chance and abs(noise.cv_auc - 0.5) < 3 * chance
    assert list(table.columns) == [
        "layer", "accuracy", "accuracy_low", "accuracy_high", "auc", "auc_low", "auc_high", "n_test", "n_test_keys",
        "n_train", "c", "cv_auc", "positive_share",
    ]  # fmt: skip
    assert (planted.n_train, planted.n_test, planted.n_test_keys) == (180, 150, 25)
    assert planted.positive_share == data[4].mean()


def test_a_probe_is_kept_as_weights_of_the_states_themselves(data):
    """Standardisation included: states shifted and stretched by 40 give the same log odds from
    other weights.
    """
    states, labels, keys, test_states, _, _ = data
    for of_train, of_test in ((states, test_states), (40 * states + 7, 40 * test_states + 7)):
        probes = fit_probes(of_train, labels, keys, seed=0)
        kept = probe_arrays(probes, WIDTH)
        assert kept["weight"].shape == (LAYERS, WIDTH) and kept["bias"].shape == (LAYERS,)
        for layer in range(LAYERS):
            expected = probe_scores(of_train[:, layer], labels, keys, of_test[:, layer], seed=0)
            np.testing.assert_allclose(
                of_test[:, layer] @ kept["weight"][layer] + kept["bias"][layer],
                expected,
                atol=1e-5 * np.abs(expected).max(),
            )


def test_probes_fitted_before_give_the_same_table(data):
    assert probe_by_layer(*data, seed=0, probes=fit_probes(*data[:3], seed=0)).equals(
        probe_by_layer(*data, seed=0)
    )


def test_a_probe_of_one_class_is_kept_as_its_constant(data):
    for label, bias in ((0, -np.inf), (1, np.inf)):
        kept = probe_arrays(
            fit_probes(data[0], np.full_like(data[1], label), data[2], seed=0), WIDTH
        )
        assert not kept["weight"].any() and (kept["bias"] == bias).all()


def test_same_seed_same_table(data):
    assert probe_by_layer(*data, seed=5).equals(probe_by_layer(*data, seed=5))


def test_nothing_of_the_test_set_is_used_to_fit(data):
    states, labels, keys, test_states, test_labels, test_keys = data
    chosen = ["c", "cv_auc", "n_train"]
    one = probe_by_layer(*data, seed=0)
    other = probe_by_layer(
        states, labels, keys, test_states[:30] + 5, 1 - test_labels[:30], test_keys[:30], seed=0
    )
    assert one[chosen].equals(other[chosen])


def test_c_is_chosen_by_whole_keys():
    """Labels that only the key decides: rows of a held-out key would betray it, keys cannot."""
    rng = np.random.default_rng(0)
    keys = np.arange(40).repeat(8)
    labels = rng.integers(0, 2, size=40)[keys]
    states = rng.normal(size=(40, 1, 60))[keys] + 0.01 * rng.normal(size=(320, 1, 60))
    test_states, test_labels, test_keys = prompts(5, 100, seed=1)
    table = probe_by_layer(
        states,
        labels,
        keys.astype(str),
        test_states[:, :1, :1].repeat(60, axis=2),
        test_labels,
        test_keys,
        seed=0,
    )
    assert table.cv_auc[0] < 0.75
    assert table.c[0] <= 0.01


def test_leakage_is_refused_and_named(data):
    states, labels, keys, test_states, test_labels, test_keys = data
    leaked = test_keys.copy()
    leaked[0] = keys[-1]
    with pytest.raises(ValueError, match="both train and test, for example 'key29'"):
        probe_by_layer(states, labels, keys, test_states, test_labels, leaked, seed=0)
    with pytest.raises(ValueError, match="both train and test"):
        call_baselines(data, test_keys=leaked)
    refuse_shared_keys(keys, test_keys)


def test_one_class_gives_nan_and_n_but_no_crash(data):
    states, labels, keys, test_states, test_labels, test_keys = data
    one_train = probe_by_layer(
        states, np.ones_like(labels), keys, test_states, test_labels, test_keys, seed=0
    )
    assert one_train.auc.isna().all() and one_train.c.isna().all()
    assert one_train.accuracy.tolist() == pytest.approx([test_labels.mean()] * LAYERS)
    one_test = probe_by_layer(
        states, labels, keys, test_states, np.zeros_like(test_labels), test_keys, seed=0
    )
    assert (
        one_test.auc.isna().all()
        and one_test.accuracy.notna().all()
        and (one_test.n_test == 150).all()
    )
    empty = probe_by_layer(
        states, labels, keys, test_states[:0], test_labels[:0], test_keys[:0], seed=0
    )
    assert empty.auc.isna().all() and empty.accuracy.isna().all() and (empty.n_test == 0).all()
    few = probe_by_layer(
        states[:6], np.array([0, 1] * 3), keys[:6], test_states, test_labels, test_keys, seed=0
    )
    assert few.auc.notna().all() and few.cv_auc.isna().all()  # one train key: no folds


def test_bad_rows_are_named(data):
    states, labels, keys, *test = data
    with pytest.raises(ValueError, match="train_states"):
        probe_by_layer(states[:-1], labels, keys, *test, seed=0)
    with pytest.raises(ValueError, match="drop 'other'"):
        probe_by_layer(states, labels + 1, keys, *test, seed=0)
    with pytest.raises(ValueError, match="labels and keys"):
        probe_by_layer(states, labels, keys[:-1], *test, seed=0)
    with pytest.raises(ValueError, match="no prompts"):
        probe_by_layer(states[:0], labels[:0], keys[:0], *test, seed=0)
    with pytest.raises(ValueError, match="finite"):
        probe_by_layer(states + np.inf, labels, keys, *test, seed=0)


# -- baselines -------------------------------------------------------------------------------------


def call_baselines(data, **changes):
    states, labels, keys, test_states, test_labels, test_keys = data
    rng = np.random.default_rng(4)

    def tokens(labels):
        """Position 0 betrays the label nine times in ten, position 1 is noise."""
        betrayal = np.where(rng.random(len(labels)) < 0.9, labels, 1 - labels)
        return np.stack([betrayal, rng.integers(9, size=len(labels))], axis=1)

    def scores(labels):
        return {"answer_margin": labels + rng.normal(size=len(labels)), "entropy": -2.0 * labels}

    labels = changes.get("train_labels", labels)
    arguments = {
        "train_labels": labels,
        "train_keys": keys,
        "test_labels": test_labels,
        "test_keys": test_keys,
        "train_states": states[:, 1],
        "test_states": test_states[:, 1],
        "prompt_only": prompt_scores(tokens(labels), labels, keys, tokens(test_labels), seed=0),
        "train_scores": scores(labels),
        "test_scores": scores(test_labels),
        "seed": 0,
    }
    return baselines(**arguments | changes).set_index("name")


def test_baselines(data):
    table = call_baselines(data)
    test_labels = data[4]
    assert list(table.index) == [
        "majority",
        "shuffled_labels",
        "prompt_only",
        "answer_margin",
        "entropy",
    ]
    assert list(table.columns) == [
        "accuracy", "accuracy_low", "accuracy_high", "auc", "auc_low", "auc_high", "n", "n_keys",
    ]  # fmt: skip
    most = data[1].mean() >= 0.5
    assert table.accuracy["majority"] == pytest.approx((test_labels == most).mean())
    assert table.auc["majority"] == 0.5
    assert 0.3 < table.auc["shuffled_labels"] < 0.7
    assert table.auc_low["shuffled_labels"] < 0.5 < table.auc_high["shuffled_labels"]
    assert 0.8 < table.auc["prompt_only"] < 0.97
    assert 0.65 < table.auc["answer_margin"] < 0.85
    assert (
        table.auc["entropy"] == table.accuracy["entropy"] == 1
    )  # high entropy is memory: turned round on train


def test_orientation_and_threshold_come_from_train(data):
    """A score that means the opposite on test keys must score below chance there."""
    labels, test_labels = data[1], data[4]
    train, test = {"s": labels.astype(float)}, {"s": 1.0 - test_labels}
    table = call_baselines(data, train_scores=train, test_scores=test)
    assert table.auc["s"] == table.accuracy["s"] == 0


def test_tokens_never_seen_in_train_are_no_error(data):
    scores = prompt_scores(
        np.stack([data[1]] * 2, axis=1), data[1], data[2], np.full((150, 2), 777), seed=0
    )
    assert len(set(scores)) == 1
    assert call_baselines(data, prompt_only=scores).auc["prompt_only"] == 0.5


def test_baselines_with_one_class(data):
    table = call_baselines(data, train_labels=np.zeros_like(data[1]))
    assert table.auc.drop("majority").isna().all()
    assert table.accuracy.tolist() == pytest.approx([1 - data[4].mean()] * 5)


def test_scores_must_match(data):
    with pytest.raises(ValueError, match="scores of train and test differ"):
        call_baselines(data, test_scores={})


# -- scores ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("decimals", [1, 8])  # with and without ties
def test_auc_equals_sklearn(decimals):
    rng = np.random.default_rng(decimals)
    labels, scores = rng.integers(0, 2, size=80), rng.normal(size=80).round(decimals)
    weights = rng.integers(0, 4, size=(5, 80))
    assert roc_auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    expected = [roc_auc_score(labels, scores, sample_weight=w) for w in weights]
    np.testing.assert_allclose(roc_auc(labels, scores, weights), expected, atol=1e-12)


def test_auc_of_one_class_is_nan():
    assert np.isnan(roc_auc([1, 1], [0.1, 0.2]))
    assert np.isnan(roc_auc([], []))
    result = roc_auc([0, 1], [0.1, 0.2], weights=[[1, 1], [2, 0]])
    assert result[0] == 1 and np.isnan(result[1])


@pytest.mark.parametrize("seed", range(5))
def test_best_threshold_beats_every_other(seed):
    rng = np.random.default_rng(seed)
    labels, scores = rng.integers(0, 2, size=30), rng.normal(size=30).round(1)

    def accuracy(threshold):
        return ((scores > threshold) == labels).mean()

    assert accuracy(best_threshold(labels, scores)) == max(
        accuracy(t) for t in np.linspace(-4, 4, 1601)
    )
