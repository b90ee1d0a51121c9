"""Planted directions are read, keys never leak, and nothing of the test set is used to fit."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from memgen.neurons.probes import (
    C_GRID,
    Examples,
    auc_within_folds,
    checked_sets,
    fit_probe,
    fit_probes,
    key_folds,
    probe_arrays,
    probe_by_layer,
    probe_scores,
    probe_weights,
    refuse_shared_keys,
)
from memgen.stats.auc import roc_auc
from memgen.stats.intervals import bootstrap_by_key, weighted_mean
from planted_states import PROBE_LAYERS, PROBE_WIDTH, planted_examples


@pytest.fixture(scope="module")
def data():
    return planted_examples(30, 0, seed=0), planted_examples(25, 100, seed=1)


def first(examples: Examples, n: int) -> Examples:
    return Examples(examples.states[:n], examples.labels[:n], examples.keys[:n])


def test_planted_direction_is_read_in_its_layer_only(data):
    table = probe_by_layer(*data, seed=0)
    noise, planted = table.iloc[0], table.iloc[1]
    assert planted.auc > 0.99 and planted.accuracy > 0.95 and planted.cv_auc > 0.99
    assert planted.auc_low > 0.97
    assert planted.c > noise.c  # the penalty is as strong as the noise asks for
    chance = 0.046  # standard deviation of the AUC of a probe on noise, from 150 draws of this data
    assert abs(noise.auc - 0.5) < 3 * chance and abs(noise.cv_auc - 0.5) < 3 * chance
    assert list(table.columns) == [
        "layer", "accuracy", "accuracy_low", "accuracy_high", "auc", "auc_low", "auc_high", "n_test",
        "n_test_keys", "n_train", "c", "cv_auc", "positive_share",
    ]  # fmt: skip
    assert (planted.n_train, planted.n_test, planted.n_test_keys) == (180, 150, 25)
    assert planted.positive_share == data[1].labels.mean()


def test_accuracy_and_auc_are_those_of_the_probe_with_intervals_over_keys(data):
    train, test = data
    table = probe_by_layer(*data, seed=3, n_resamples=301)
    for layer, probe in enumerate(fit_probes(train, seed=3)):
        scores, row = probe.log_odds(test.states[:, layer]), table.iloc[layer]
        right = ((scores > 0) == (test.labels == 1)).astype(float)
        assert layer or ((scores > 0) & (scores < 1)).any()
        expected = bootstrap_by_key(
            weighted_mean, test.keys, right, seed=3, n_resamples=301, weighted=True
        )
        found = [row.accuracy, row.accuracy_low, row.accuracy_high]
        assert found == pytest.approx([expected.estimate, expected.low, expected.high])
        assert row.auc == pytest.approx(roc_auc(test.labels, scores))
    assert probe_by_layer(*data, seed=3).equals(probe_by_layer(*data, seed=3, n_resamples=1000))


def test_scores_of_an_array_are_those_of_the_probe_of_the_seed():
    """Weak features and few keys, so that the penalty depends on the folds that the seed draws."""
    rng = np.random.default_rng(1)
    words, keys = rng.integers(0, 4, (48, 3)), np.arange(12).repeat(4)
    drive = (words[:, 0] == 1) + 0.5 * (words[:, 1] > 1) - 0.6
    labels = (drive + rng.normal(0, 0.8, 48) > 0).astype(int)
    x = np.eye(4)[words].reshape(48, 12)
    probes = [fit_probe(Examples(x, labels, keys), seed, standardise=False) for seed in range(4)]
    for seed, probe in enumerate(probes):
        found = probe_scores(x, labels, keys, x, seed=seed, standardise=False)
        np.testing.assert_allclose(found, probe.log_odds(x), atol=1e-9)
    assert len({probe.c for probe in probes}) > 1


def test_a_probe_is_kept_as_weights_of_the_states_themselves(data):
    """Standardisation included: states shifted and stretched by 40 give the same log odds from
    other weights.
    """
    train, test = data
    for scale, offset in ((1, 0), (40, 7)):
        of_train, of_test = (scale * part.states + offset for part in data)
        probes = fit_probes(replace(train, states=of_train), seed=0)
        kept = probe_arrays(probes, PROBE_WIDTH)
        assert kept["weight"].shape == (PROBE_LAYERS, PROBE_WIDTH)
        assert kept["bias"].shape == (PROBE_LAYERS,)
        for layer in range(PROBE_LAYERS):
            expected = probe_scores(
                of_train[:, layer], train.labels, train.keys, of_test[:, layer], seed=0
            )
            np.testing.assert_allclose(
                of_test[:, layer] @ kept["weight"][layer] + kept["bias"][layer],
                expected,
                atol=1e-5 * np.abs(expected).max(),
            )


def test_probes_fitted_before_give_the_same_table(data):
    assert probe_by_layer(*data, seed=0, probes=fit_probes(data[0], seed=0)).equals(
        probe_by_layer(*data, seed=0)
    )


def test_a_probe_of_one_class_is_kept_as_its_constant(data):
    for label, bias in ((0, -np.inf), (1, np.inf)):
        one_class = replace(data[0], labels=np.full_like(data[0].labels, label))
        kept = probe_arrays(fit_probes(one_class, seed=0), PROBE_WIDTH)
        assert not kept["weight"].any() and (kept["bias"] == bias).all()


def test_same_seed_same_table(data):
    assert probe_by_layer(*data, seed=5).equals(probe_by_layer(*data, seed=5))


def test_nothing_of_the_test_set_is_used_to_fit(data):
    train, test = data
    chosen = ["c", "cv_auc", "n_train"]
    one = probe_by_layer(train, test, seed=0)
    changed = Examples(test.states[:30] + 5, 1 - test.labels[:30], test.keys[:30])
    assert one[chosen].equals(probe_by_layer(train, changed, seed=0)[chosen])


def test_c_is_chosen_by_whole_keys():
    """Labels that only the key decides: rows of a held-out key would betray it, keys cannot."""
    rng = np.random.default_rng(0)
    keys = np.arange(40).repeat(8)
    labels = rng.integers(0, 2, size=40)[keys]
    states = rng.normal(size=(40, 1, 60))[keys] + 0.01 * rng.normal(size=(320, 1, 60))
    test = planted_examples(5, 100, seed=1)
    test = replace(test, states=test.states[:, :1, :1].repeat(60, axis=2))
    table = probe_by_layer(Examples(states, labels, keys.astype(str)), test, seed=0)
    assert table.cv_auc[0] < 0.75
    assert table.c[0] <= 0.01


def test_leakage_is_refused_and_named(data):
    train, test = data
    leaked = test.keys.copy()
    leaked[0] = train.keys[-1]
    with pytest.raises(ValueError, match="both train and test, for example 'key29'"):
        probe_by_layer(train, replace(test, keys=leaked), seed=0)
    refuse_shared_keys(train.keys, test.keys)
    mixed = np.array([2, "b", 10], dtype=object)
    with pytest.raises(ValueError, match="^3 keys are .* for example 10: split by key first$"):
        refuse_shared_keys(mixed, mixed)
    checked, _ = checked_sets(replace(train, labels=train.labels == 1), test, ndim=3)
    assert checked.labels.dtype == int


def test_one_class_gives_nan_and_n_but_no_crash(data):
    train, test = data
    one_train = probe_by_layer(replace(train, labels=np.ones_like(train.labels)), test, seed=0)
    assert one_train.auc.isna().all() and one_train.c.isna().all()
    assert one_train.accuracy.tolist() == pytest.approx([test.labels.mean()] * PROBE_LAYERS)
    one_test = probe_by_layer(train, replace(test, labels=np.zeros_like(test.labels)), seed=0)
    assert one_test.auc.isna().all() and one_test.accuracy.notna().all()
    assert (one_test.n_test == 150).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        empty = probe_by_layer(train, first(test, 0), seed=0)
    assert empty.positive_share.isna().all()
    assert empty.accuracy.dtype.kind == empty.auc_low.dtype.kind == "f"
    assert empty.auc.isna().all() and empty.accuracy.isna().all() and (empty.n_test == 0).all()
    one_key = replace(first(train, 6), labels=np.array([0, 1] * 3))
    few = probe_by_layer(one_key, test, seed=0)
    assert few.auc.notna().all() and few.cv_auc.isna().all()  # one train key: no folds


def test_bad_rows_are_named(data):
    train, test = data
    cases = [
        ("train_states", replace(train, states=train.states[:-1])),
        ("drop 'other'", replace(train, labels=train.labels + 1)),
        ("labels and keys", replace(train, keys=train.keys[:-1])),
        ("^train: there are no prompts", first(train, 0)),
        ("^train_states must be finite", replace(train, states=train.states + np.inf)),
    ]
    for message, broken in cases:
        with pytest.raises(ValueError, match=message):
            probe_by_layer(broken, test, seed=0)


def test_probe_weights_are_the_slopes_of_the_probe_in_the_units_of_the_states():
    rng, n = np.random.default_rng(2), 80
    memory, rule = rng.normal(size=(n, 2, 4)), rng.normal(size=(n, 2, 4))
    rule[:, 1, 2] += 2.0  # planted in the second layer; the first holds nothing
    memory[..., 3], rule[..., 3] = 100 * memory[..., 3], 100 * rule[..., 3]
    keys = np.arange(n) % 10
    weights = probe_weights(memory, rule, keys, seed=0)
    assert (
        weights[1].argmax() == 2
        and weights[1, 2] > 3 * np.abs(np.delete(weights[1], 2)).max()
        and np.abs(weights[:, 3]).max() < 0.05
    )
    assert np.abs(weights[0]).max() < weights[1, 2] / 3
    points, labels = rng.normal(size=(6, 4)), np.repeat([0, 1], n)
    line = probe_scores(
        np.concatenate([memory[:, 1], rule[:, 1]]), labels, np.tile(keys, 2), points, seed=0
    )
    np.testing.assert_allclose(np.diff(points @ weights[1]), np.diff(line), atol=1e-9)


def test_a_cross_validated_auc_compares_prompts_of_one_fold():
    """Every fold is scored by what the others hold: pooled, knowing nothing looks like being wrong."""
    rng = np.random.default_rng(0)
    keys = np.arange(20).repeat(10)
    labels = (rng.random(200) < np.repeat(rng.permutation([0.1, 0.9] * 10), 10)).astype(int)
    scores = np.empty(200)
    for fit, held in key_folds(labels, keys, 0):
        scores[held] = labels[fit].mean()  # a fit that learned the share of rule answers alone
    assert roc_auc(labels, scores) < 0.45 and auc_within_folds(labels, scores, keys, 0) == 0.5
    assert auc_within_folds(labels, labels + 0.0, keys, 0) == 1.0
    assert np.isnan(auc_within_folds(labels, scores, np.zeros(200), 0))


def reference(x, labels, c: float):
    return make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=2000)).fit(x, labels)


def test_c_is_that_of_the_lowest_log_loss_and_the_probe_that_of_scikit_learn():
    """Columns of very different scale: without a scaler another C would be chosen."""
    chosen = set()
    for seed, signal in ((0, 2.0), (1, 0.3), (2, 0.8)):
        rng = np.random.default_rng(seed)
        keys, labels = np.repeat(np.arange(8), 10), rng.integers(0, 2, 80)
        x = rng.normal(size=(80, 6))
        x[:, 0] += signal * labels
        x *= np.array([0.01, 30.0, 1.0, 0.1, 5.0, 100.0])
        train = Examples(x.astype(np.float32), labels, keys)
        probe = fit_probe(train, seed=4)
        losses = []
        for c in C_GRID:
            odds = np.full(80, np.nan)
            for fit, held in key_folds(labels, keys, 4):
                odds[held] = reference(x[fit], labels[fit], c).decision_function(x[held])
            losses.append(np.logaddexp(0, np.where(labels == 1, -odds, odds)).mean())
        assert probe.c == C_GRID[int(np.argmin(losses))]
        chosen.add(probe.c)
        expected = reference(x, labels, probe.c).decision_function(x)
        np.testing.assert_allclose(probe.log_odds(x), expected, atol=2e-3)
    assert len(chosen) > 1


def test_one_key_gets_the_middle_c_and_a_scaler():
    rng = np.random.default_rng(0)
    labels = np.tile([0, 1], 20)
    x = rng.normal(size=(40, 3)) * np.array([0.01, 50.0, 1.0])
    x[:, 0] += 0.01 * labels
    probe = fit_probe(Examples(x, labels, np.zeros(40, dtype=int)), seed=0)
    middle = C_GRID[len(C_GRID) // 2]
    assert probe.c == middle and np.isnan(probe.cv_auc)
    expected = reference(x, labels, middle).decision_function(x)
    np.testing.assert_allclose(probe.log_odds(x), expected, atol=2e-3)
    assert probe.log_odds(x[:0]).shape == (0,)
    one = fit_probe(Examples(x, np.ones(40, dtype=int), np.arange(40)), seed=0)
    assert np.isnan(one.c) and np.isnan(one.cv_auc)


def test_two_keys_are_two_folds():
    labels, keys = np.array([0, 1, 0, 1]), np.array(["a", "a", "b", "b"])
    folds = list(key_folds(labels, keys, seed=0))
    assert sorted(held.tolist() for _, held in folds) == [[0, 1], [2, 3]]
    assert list(key_folds(labels, np.array(["a"] * 4), seed=0)) == []


def test_every_fold_counts_in_the_cross_validated_auc():
    """Right in one key and wrong in the other: one half, whichever of them is the first fold."""
    labels, keys = np.array([0, 1, 0, 1]), np.array(["a", "a", "b", "b"])
    for scores in ([0.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 1.0]):
        assert auc_within_folds(labels, np.array(scores), keys, seed=0) == 0.5
