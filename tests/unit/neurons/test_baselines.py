"""Each confound of a prediction is planted and caught by the forecast that is meant for it; a state that
knows more than all of them leaves a gain; and all that is chosen comes from train.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from memgen.neurons.baselines import (
    Forecast,
    base_forecast,
    baselines,
    best_layer,
    gain,
    gains,
    prompt_forecasts,
    strongest,
)
from memgen.neurons.probes import Examples, fit_probe, fit_probes
from memgen.neurons.prompt_features import PromptFeatures, one_hot, role_matrix
from memgen.stats.auc import roc_auc
from memgen.stats.intervals import bootstrap_by_key, weighted_mean
from planted_states import planted_examples

DRAWN = {"seed": 0, "n_resamples": 200}


@pytest.fixture(scope="module")
def data():
    return planted_examples(30, 0, seed=0), planted_examples(25, 100, seed=1)


def forecast(scores, cv_auc=np.nan):
    return Forecast(np.asarray(scores, dtype=float), cv_auc)


def call_baselines(data, words=None, train=(), test=()):
    """The table by name, of layer 1; `train`, `test`: fields of the two sets that are replaced."""
    rng = np.random.default_rng(4)

    def scores(labels):
        return {"answer_margin": labels + rng.normal(size=len(labels)), "entropy": -2.0 * labels}

    asked, scored = data[0].at(1), data[1].at(1)
    labels = dict(train).get("labels", asked.labels)
    if words is None:
        words = forecast(scored.labels - 0.5 + rng.normal(size=150), 0.7)
    asked = replace(asked, **{"scores": scores(labels)} | dict(train))
    scored = replace(scored, **{"scores": scores(scored.labels)} | dict(test))
    return baselines(asked, scored, {"prompt_only": words}, seed=0).set_index("name")


def test_baselines(data):
    table = call_baselines(data)
    test_labels = data[1].labels
    names = ["majority", "shuffled_labels", "prompt_only", "answer_margin", "entropy"]
    assert list(table.index) == names
    assert list(table.columns) == [
        "accuracy", "accuracy_low", "accuracy_high", "auc", "auc_low", "auc_high", "n", "n_keys",
        "cv_auc",
    ]  # fmt: skip
    most = data[0].labels.mean() >= 0.5
    assert table.accuracy["majority"] == pytest.approx((test_labels == most).mean())
    assert table.auc["majority"] == 0.5
    assert 0.3 < table.auc["shuffled_labels"] < 0.7
    assert table.auc_low["shuffled_labels"] < 0.5 < table.auc_high["shuffled_labels"]
    assert 0.65 < table.auc["prompt_only"] < 0.85 and table.cv_auc["prompt_only"] == 0.7
    assert 0.65 < table.auc["answer_margin"] < 0.85
    # high entropy is memory: turned round on train
    assert table.auc["entropy"] == table.accuracy["entropy"] == 1


def test_a_forecast_answers_by_its_own_threshold(data):
    labels = data[1].labels
    words = replace(forecast(labels + 7.0), threshold=7.5)
    assert call_baselines(data, words).accuracy["prompt_only"] == 1.0
    assert call_baselines(data, replace(words, threshold=0.0)).accuracy["prompt_only"] < 0.7


def test_only_what_is_above_the_threshold_counts_as_rule(data):
    labels = data[1].labels
    words = forecast(labels)  # 0, the threshold itself, for memory
    halves = {"s": np.where(labels == 1, 0.75, 0.5)}  # midway between the train scores, and above
    zeros_and_ones = {"s": data[0].labels.astype(float)}
    table = call_baselines(data, words, train={"scores": zeros_and_ones}, test={"scores": halves})
    assert table.accuracy["prompt_only"] == table.accuracy["s"] == 1


def test_the_seed_decides_the_shuffles(data):
    assert call_baselines(data).equals(call_baselines(data))


def test_five_shuffles_and_1000_draws_where_no_number_is_given():
    rng = np.random.default_rng(0)
    asked, scored = (
        Examples(rng.normal(size=(n, 1)), rng.integers(0, 2, n), rng.integers(low, low + 20, n))
        for n, low in ((12, 0), (150, 20))
    )
    plain = baselines(asked, scored, {}, seed=3)
    assert plain.equals(baselines(asked, scored, {}, seed=3, n_shuffles=5, n_resamples=1000))
    correct = (scored.labels == (asked.labels.mean() >= 0.5)).astype(float)
    found = bootstrap_by_key(weighted_mean, scored.keys, correct, seed=3, weighted=True)
    ends = plain.set_index("name").loc["majority", ["accuracy_low", "accuracy_high"]].tolist()
    assert ends == pytest.approx([found.low, found.high], abs=1e-12)


def test_shuffled_labels_still_teach_which_behaviour_is_frequent():
    """Two in three train prompts follow the rule: log odds near log 2, so rule is the answer."""
    rng = np.random.default_rng(0)
    train, test = (
        Examples(rng.normal(size=(120, 2)), np.tile(shown, 40), np.repeat(keys, 6))
        for shown, keys in (([1, 1, 0], range(20)), ([0, 0, 1], range(20, 40)))
    )
    table = baselines(train, test, {}, seed=0, n_resamples=20).set_index("name")
    assert table.accuracy["shuffled_labels"] == pytest.approx(1 / 3, abs=0.08)


def test_log_odds_of_nothing_do_not_count_as_rule():
    """States without a spread and balanced labels: log odds of 0, which are not above 0."""
    train, test = (
        Examples(np.zeros((12, 2)), np.tile(shown, 12 // len(shown)), np.repeat(keys, 3))
        for shown, keys in (([1, 0], range(4)), ([0, 0, 1], range(4, 8)))
    )
    table = baselines(train, test, {}, seed=0, n_shuffles=2, n_resamples=20).set_index("name")
    assert table.accuracy["shuffled_labels"] == pytest.approx(2 / 3)
    assert table.auc["shuffled_labels"] == 0.5


def test_orientation_and_threshold_come_from_train(data):
    """A score that means the opposite on test keys must score below chance there."""
    straight, turned = {"s": data[0].labels.astype(float)}, {"s": 1.0 - data[1].labels}
    table = call_baselines(data, train={"scores": straight}, test={"scores": turned})
    assert table.auc["s"] == table.accuracy["s"] == 0


def test_baselines_with_one_class(data):
    one = np.zeros_like(data[0].labels)
    words = forecast(np.full(150, -np.inf))
    table = call_baselines(data, words, train={"labels": one})
    assert table.auc.drop("majority").isna().all()
    assert table.accuracy.tolist() == pytest.approx([1 - data[1].labels.mean()] * 5)
    words = forecast(np.full(150, np.inf))
    table = call_baselines(data, words, train={"labels": one + 1})
    assert table.auc.drop("majority").isna().all()
    assert table.accuracy.tolist() == pytest.approx([data[1].labels.mean()] * 5)


def test_a_score_that_tells_nothing_in_train_is_not_turned(data):
    flat, told = {"s": np.zeros(len(data[0].labels))}, {"s": data[1].labels.astype(float)}
    assert call_baselines(data, train={"scores": flat}, test={"scores": told}).auc["s"] == 1


def test_scores_must_match(data):
    with pytest.raises(ValueError, match="scores of train and test differ"):
        call_baselines(data, test={"scores": {}})


def test_leakage_is_refused(data):
    leaked = data[1].keys.copy()
    leaked[0] = data[0].keys[-1]
    with pytest.raises(ValueError, match="both train and test"):
        call_baselines(data, test={"keys": leaked})


def test_scores_of_other_rows_are_named(data):
    with pytest.raises(ValueError, match=r"test_scores\['entropy'\]: 1 dimensions and 150 rows"):
        call_baselines(
            data, test={"scores": {"answer_margin": np.zeros(150), "entropy": np.zeros(3)}}
        )


# -- confounds, planted ----------------------------------------------------------------------------
N_KEYS, PER_KEY, WIDTH = 24, 12, 10


class Side:
    """Prompts of 24 keys: every feature that a forecast could use, none of them linked to a label."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        self.n = N_KEYS * PER_KEY
        self.keys = np.repeat([f"{seed}/{k}" for k in range(N_KEYS)], PER_KEY)
        self.tokens = self.rng.integers(0, 4, size=(self.n, 3))
        self.tokens[:, 0] = np.repeat(100 * seed + np.arange(N_KEYS), PER_KEY)  # of this key alone
        self.position = self.rng.integers(0, 2, size=self.n)
        self.third = self.rng.integers(0, 100, size=self.n)
        self.nearness = self.rng.integers(-3, 4, size=self.n).astype(float)
        self.hidden = self.rng.normal(size=self.n)  # what no prompt and no base tells
        self.labels = self.rng.integers(0, 2, size=self.n)

    def decide(self, score: np.ndarray) -> None:
        """The behaviour follows this score, with noise."""
        self.labels = (score + 0.3 * self.rng.normal(size=self.n) > 0).astype(int)

    @property
    def features(self) -> PromptFeatures:
        roles = pd.DataFrame({"position": self.position.astype(str), "third": self.third})
        return PromptFeatures(self.tokens, roles, self.nearness)

    def states(self, *carried: np.ndarray) -> np.ndarray:
        """`[n, 2, d]`, a straight line of each carried score in the second layer."""
        noise = np.random.default_rng(self.n).normal(size=(self.n, 2, WIDTH))
        for i, score in enumerate(carried):
            noise[:, 1, i] += 3.0 * score
        return noise


def race(decides, base=lambda side: (), knows=lambda side: (side.labels - 0.5,)):
    """`(strongest, gain over it, AUC by forecast)`, behaviours decided by a score of each side.

    base: what the base's states carry; knows: what the model's do.
    """
    train, test = Side(1), Side(2)
    for side in (train, test):
        decides(side)
    known = prompt_forecasts(train.features, test.features, train.labels, train.keys, 0)
    held = Examples(train.states(*base(train)), train.labels, train.keys)
    known["base_probe"] = base_forecast(held, test.states(*base(test)), fit_probes(held, seed=0))
    own = Examples(train.states(*knows(train)), train.labels, train.keys)
    probes, states = fit_probes(own, seed=0), test.states(*knows(test))
    at = best_layer([probe.cv_auc for probe in probes])
    asked = Examples(states[:, at], test.labels, test.keys)
    found = gains(asked, probes[at].log_odds(states[:, at]), known, **DRAWN)
    chosen = strongest(known)
    return chosen, found[chosen], {n: roc_auc(test.labels, f.scores) for n, f in known.items()}


def centred(values):
    return (values - values.mean()) / values.std()


CONFOUNDS = {
    "nearest_setting": lambda side: side.nearness,
    "prompt_only": lambda side: side.tokens[:, 1] % 2,
    "role_features": lambda side: side.third,
    # neither token nor position alone: only the two together
    "token_position_table": lambda side: (side.tokens[:, 2] + side.position) % 2,
}


@pytest.mark.parametrize("name", CONFOUNDS)
def test_a_confound_of_the_prompt_is_caught_by_its_forecast(name):
    """The probe reads the coming behaviour off a state that holds what decides it: no gain."""

    def decisive(side):
        return centred(CONFOUNDS[name](side))

    chosen, found, aucs = race(
        lambda side: side.decide(decisive(side)), knows=lambda side: (decisive(side),)
    )
    assert chosen == name and aucs[name] > 0.85
    assert abs(found.estimate) < 0.05
    others = [auc for other, auc in aucs.items() if other not in (name, "token_position_table")]
    assert max(others) < 0.65


def test_what_the_base_knew_already_is_caught_by_its_own_probe():
    def hidden(side):
        return (side.hidden,)

    chosen, found, aucs = race(lambda side: side.decide(side.hidden), base=hidden, knows=hidden)
    assert chosen == "base_probe" and aucs["base_probe"] > 0.9
    assert abs(found.estimate) < 0.03


def test_a_state_that_knows_what_no_forecast_does_leaves_a_gain():
    chosen, found, aucs = race(lambda side: side.decide(side.hidden))
    assert max(aucs.values()) < 0.65
    assert found.estimate > 0.3 and found.low > 0.2


def test_shuffled_behaviours_leave_no_gain():
    def nothing(side):
        side.labels = side.rng.permutation(side.labels)

    _, found, aucs = race(nothing, knows=lambda side: (side.hidden,))
    assert all(abs(auc - 0.5) < 0.12 for auc in aucs.values())
    assert found.low < 0.02 and found.estimate < 0.05


def test_the_strongest_is_chosen_on_train_keys_alone():
    known = {"a": forecast([0, 1], 0.6), "b": forecast([1, 0], 0.7), "c": forecast([0, 1])}
    assert strongest(known) == "b"
    assert strongest({"c": known["c"]}) is None and strongest({}) is None


def test_a_forecast_worse_than_chance_is_no_easier_to_beat_than_chance():
    labels = np.array([0, 0, 1, 1])
    good, bad = np.array([0.0, 2, 1, 3]), np.array([3.0, 2, 1, 0])
    weights = np.array([[1.0, 1, 1, 1], [2, 1, 0, 1]])
    assert gain(labels, good, bad, weights)[0] == roc_auc(labels, good) - 0.5
    best = np.array([0.0, 0, 1, 1])
    np.testing.assert_allclose(
        gain(labels, good, best, weights), roc_auc(labels, good, weights) - 1.0
    )


def test_what_a_forecast_has_to_beat_is_weighted_like_the_score():
    labels, best = np.array([0, 0, 1, 1]), np.array([0.0, 0, 1, 1])
    other = np.array([0.0, 2, 1, 3])  # three of four pairs in order; all of them without row 2
    weights = np.array([[1.0, 1, 1, 1], [2, 1, 0, 1]])
    assert gain(labels, best, other, weights).tolist() == [0.25, 0.0]


def test_the_seed_decides_the_folds_of_every_forecast():
    train, test = Side(1), Side(2)
    train.labels = (train.labels + (train.nearness > 0) > 1).astype(int)  # each tells a little
    cv_aucs = [
        {
            name: one.cv_auc
            for name, one in prompt_forecasts(
                train.features, test.features, train.labels, train.keys, seed
            ).items()
        }
        for seed in (3, 3, 4)
    ]
    assert len(cv_aucs[0]) == 4 and cv_aucs[0] == cv_aucs[1]
    assert all(cv_aucs[0][name] != cv_aucs[2][name] for name in cv_aucs[0])


def test_tokens_and_roles_are_fitted_as_they_are():
    """Not standardised: a rare token must not weigh more than a frequent one."""
    train, test = Side(1), Side(2)
    train.decide(train.third - 50.0)
    found = prompt_forecasts(train.features, test.features, train.labels, train.keys, 3)
    for name, (old, new) in {
        "prompt_only": one_hot(train.tokens, test.tokens),
        "role_features": role_matrix(train.features.roles, test.features.roles),
    }.items():
        plain, standardised = (
            fit_probe(Examples(old, train.labels, train.keys), 3, how).log_odds(new)
            for how in (False, True)
        )
        np.testing.assert_allclose(found[name].scores, plain)
        assert np.abs(plain - standardised).max() > 1e-3


def test_the_nearest_setting_has_its_threshold_from_train():
    """Rule answers begin at nearness 2 in train, whatever they do in test."""
    train, test = Side(1), Side(2)
    train.labels = (train.nearness >= 2).astype(int)
    known = prompt_forecasts(train.features, test.features, train.labels, train.keys, 0)
    assert known["nearest_setting"].threshold == 1.5
    assert known["nearest_setting"].scores.tolist() == test.nearness.tolist()
    assert known["nearest_setting"].cv_auc == 1


@pytest.mark.parametrize("lacks", ["train", "test"])
def test_without_settings_on_one_side_none_is_nearest(lacks):
    features = {"train": Side(1).features, "test": Side(2).features}
    features[lacks] = replace(features[lacks], nearness=None)
    known = prompt_forecasts(*features.values(), Side(1).labels, Side(1).keys, 0)
    assert list(known) == ["prompt_only", "role_features", "token_position_table"]


def test_a_single_train_prompt_is_answered_like_itself():
    one = PromptFeatures(np.array([[5]]), pd.DataFrame(index=range(1)))
    for label, infinite in ((0, -np.inf), (1, np.inf)):
        known = prompt_forecasts(one, one, np.array([label]), np.array(["a"]), 0)
        assert known["token_position_table"].scores.tolist() == [infinite]
        assert np.isnan(known["token_position_table"].cv_auc)


def test_tokens_never_seen_in_train_are_no_error():
    train, test = Side(1), Side(2)
    test.tokens[:] = 777
    known = prompt_forecasts(train.features, test.features, train.labels, train.keys, 0)
    assert len(set(known["prompt_only"].scores)) == 1
    assert len(set(known["token_position_table"].scores)) == 1  # cells that train never had


def test_a_task_without_roles_and_settings_has_fewer_forecasts():
    train, test = (
        PromptFeatures(side.tokens, pd.DataFrame(index=range(side.n)))
        for side in (Side(1), Side(2))
    )
    known = prompt_forecasts(train, test, Side(1).labels, Side(1).keys, 0)
    assert list(known) == ["prompt_only", "token_position_table"]


def test_one_behaviour_teaches_the_forecasts_nothing():
    train, test = Side(1), Side(2)
    for label in (0, 1):
        labels = np.full(train.n, label)
        known = prompt_forecasts(train.features, test.features, labels, train.keys, 0)
        assert strongest(known) is None
        infinite = np.inf if label else -np.inf
        assert (known["token_position_table"].scores == infinite).all()


def test_the_table_holds_shares_that_lean_to_the_overall_one():
    features = PromptFeatures(np.array([[5], [5], [6], [6]]), pd.DataFrame(index=range(4)))
    asked = PromptFeatures(np.array([[5], [6], [7]]), pd.DataFrame(index=range(3)))
    labels, keys = np.array([1, 1, 0, 1]), np.array(list("abab"))
    scores = prompt_forecasts(features, asked, labels, keys, 0)["token_position_table"].scores
    shares = 1 / (1 + np.exp(-scores))
    np.testing.assert_allclose(shares, [(2 + 1.5) / 4, (1 + 1.5) / 4, 0.75])


def test_the_layer_of_the_base_is_chosen_on_train_keys():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, size=120)
    states = rng.normal(size=(120, 2, 3))
    states[:, 0, 0] += 3.0 * labels  # readable in the first layer of train
    train = Examples(states, labels, np.repeat(np.arange(20), 6))
    test = rng.normal(size=(5, 2, 3))
    probes = fit_probes(train, seed=0)
    found = base_forecast(train, test, probes)
    np.testing.assert_array_equal(found.scores, probes[0].log_odds(test[:, 0]))
    assert found.cv_auc == probes[0].cv_auc > 0.9
