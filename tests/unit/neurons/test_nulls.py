"""What each null can see: the base a difference of prompts, pairs whose behaviour stays a drift."""

import warnings

import numpy as np
import pytest

from memgen.neurons.nmd import split_half
from memgen.neurons.nulls import SignFlips, by_layer, oriented, pearson, same_behavior_nulls
from memgen.neurons.orientation import rule_likeness
from memgen.stats.permutation import discoveries, sign_flip_test
from planted_states import LAYERS, PLANTED, WIDTH, planted_pairs

TEST = SignFlips(2000, 0.05, 0)


class Confounded:
    """Prompts of 40 keys: six a key, whose behaviour follows a token of the prompt, mostly.

    Feature x (0 or 1) is said by the token at place 1 and written to neuron (1, 3) by the base and
    by the trained model alike. The behaviour is generalization where x is 1, but for one in ten.
    """

    N_KEYS, PER_KEY = 40, 6

    def __init__(self):
        rng = np.random.default_rng(1)
        n = self.N_KEYS * self.PER_KEY
        self.keys = np.repeat(np.arange(self.N_KEYS), self.PER_KEY)
        self.x = rng.integers(0, 2, n)
        self.labels = np.where(rng.random(n) < 0.1, 1 - self.x, self.x)
        self.tokens = np.stack([self.keys, 100 + self.x, rng.integers(200, 205, n)], axis=1)
        self.states = rng.normal(0, 0.5, (n, LAYERS, WIDTH))
        self.states[:, 1, 3] += 2 * self.x

    def pairs(self, first: int, second: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the pairs of one key that show these behaviours, as drawn."""
        found = []
        for key in range(self.N_KEYS):
            rows = np.flatnonzero(self.keys == key)
            ones, others = (rows[self.labels[rows] == label] for label in (first, second))
            if first == second:
                ones, others = ones[0::2], ones[1::2]
            found += list(zip(ones, others))
        return tuple(np.array(found).T)


@pytest.fixture(scope="module")
def confounded():
    return Confounded()


def test_the_base_null_shows_a_difference_of_prompts(confounded):
    """The trained model adds a neuron for the behaviour; the base has that of the prompts alone."""
    memory, rule = confounded.pairs(0, 1)
    keys, base = confounded.keys[memory], confounded.states
    trained = base.copy()
    trained[:, PLANTED[0], PLANTED[1]] += 2 * confounded.labels
    own = by_layer(trained[memory], trained[rule], keys, TEST)
    reference = (trained[rule] - trained[memory]).mean(axis=0)
    null = by_layer(base[memory], base[rule], keys, TEST, reference)
    assert null.significant_share.tolist() == pytest.approx([0, 1 / WIDTH, 0], abs=0.5 / WIDTH)
    assert own.significant_share.tolist() == pytest.approx(
        [0, 1 / WIDTH, 1 / WIDTH], abs=0.5 / WIDTH
    )
    assert null.correlation[1] == pytest.approx(1)  # there the trained model is the base
    assert null.correlation[2] < 0.5
    assert own.correlation.isna().all()  # held against nothing
    assert (null.n_pairs == len(keys)).all() and (null.n_keys == len(set(keys))).all()


def test_pairs_whose_behaviour_stays_miss_it_until_their_words_turn_them(confounded):
    stays = {"memorization": (0, 0), "generalization": (1, 1)}
    looks = rule_likeness(
        (confounded.tokens, confounded.labels, confounded.keys),
        (confounded.tokens, confounded.keys),
        seed=0,
    )
    drawn, turned = {}, {}
    for name, kind in stays.items():
        first, second = confounded.pairs(*kind)
        differences = confounded.states[second] - confounded.states[first]
        keys = confounded.keys[first]
        drawn[name] = differences, keys
        turned[name] = oriented(differences, looks[first], looks[second]), keys
    found = {
        name: same_behavior_nulls(pairs, n_permutations=2000, seed=0)
        .query("behavior == 'both'")
        .significant_share.tolist()
        for name, pairs in (("drawn", drawn), ("turned", turned))
    }
    assert found["drawn"] == [0, 0, 0]
    assert found["turned"] == pytest.approx([0, 1 / WIDTH, 0], abs=0.5 / WIDTH)


def test_a_difference_is_turned_by_its_words_or_left_as_drawn():
    differences = np.ones((3, 1, 2))
    turned = oriented(differences, np.array([0.0, 2.0, 1.0]), np.array([1.0, 1.0, 1.0]))
    assert turned[:, 0, 0].tolist() == [1, -1, 1]


def test_the_classifier_of_words_sees_no_prompt_of_the_key_it_scores():
    """Labels are the key's own, and a token says which key: only a leak could tell them apart."""
    keys = np.repeat(np.arange(20), 5)
    labels = keys % 2
    tokens = np.stack([keys, np.full(100, 7)], axis=1)
    looks = rule_likeness((tokens, labels, keys), (tokens, keys), seed=0)
    by_key = np.array([looks[keys == key] for key in range(20)])
    assert (np.ptp(by_key, axis=1) == 0).all()
    right = (by_key[:, 0] > 0) == (np.arange(20) % 2 == 1)
    assert right.mean() <= 0.75  # with the key among them it would be 1
    told = np.stack([keys, 50 + labels], axis=1)
    looks = rule_likeness((told, labels, keys), (told, keys), seed=0)
    assert ((looks > 0) == (labels == 1)).all()
    one = rule_likeness((tokens[:5], labels[:5], keys[:5]), (tokens[:5], keys[:5]), seed=0)
    assert one.tolist() == [0] * 5  # no other key to learn from


def test_what_is_said_of_each_layer_is_what_was_planted():
    memory, rule, keys = planted_pairs()
    rule = rule * np.array([1, 10, 1])[:, None]  # a loud layer without a difference
    memory = memory * np.array([1, 10, 1])[:, None]
    table = by_layer(memory, rule, keys, TEST, reference=(rule - memory).mean(axis=0))
    assert table.layer.tolist() == [0, 1, 2] and (table.n_pairs == 60).all()
    assert table.significant_share[2] >= 1 / WIDTH and table.max_abs_rho.argmax() == 2
    assert table.mean_abs_nmd.argmax() == 1  # the noise of loud states
    # in units of the states, without that noise: a step of 3 beside states of length 4 or 5
    assert table.nmd_relative[2] == pytest.approx(3 / 4.5, abs=0.15)
    assert table.nmd_relative[:2].abs().max() < 0.25
    assert table.correlation.tolist() == pytest.approx([1, 1, 1])


def test_same_behavior_nulls_are_null_and_expose_a_drift():
    rng = np.random.default_rng(3)
    memory, rule = rng.normal(size=(2, 80, LAYERS, WIDTH))
    rule[:, 1] += 2  # rephrasing moves all of layer 1 in the rule-rule pairs
    keys = np.repeat(np.arange(40), 2)
    pairs = {"memorization": (memory, keys), "generalization": (rule, keys)}
    table = same_behavior_nulls(pairs, n_permutations=2000, seed=0)
    share = table.pivot(index="layer", columns="behavior", values="significant_share")
    assert share["memorization"].max() <= 0.1
    assert share.loc[1, ["generalization", "both"]].tolist() == [1, 1]
    assert share.loc[[0, 2], "generalization"].max() <= 0.2
    n_pairs = table.groupby("behavior").n_pairs.first()
    assert n_pairs.to_dict() == {"both": 160, "generalization": 80, "memorization": 80}
    assert (table.n_keys == 40).all()
    size = table[table.behavior == "generalization"].mean_abs_nmd
    assert size.argmax() == 1

    none = pairs | {"generalization": (rule[:0], keys[:0])}
    fewer = same_behavior_nulls(none, n_permutations=99, seed=0, max_pairs=30)
    assert fewer.groupby("behavior").n_pairs.first().to_dict() == {
        "both": 30,
        "generalization": 0,
        "memorization": 30,
    }
    assert fewer[fewer.behavior == "generalization"].significant_share.isna().all()


def slight(n_keys: int = 9, seed: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """float32 states of pairs in which a third of the neurons differ a little, and their keys."""
    rng = np.random.default_rng(seed)
    memory, rule = rng.normal(size=(2, 2 * n_keys, LAYERS, 60)).astype(np.float32)
    rule[:, :, ::3] += np.linspace(0.4, 1.4, 20, dtype=np.float32)
    return memory, rule, np.repeat(np.arange(n_keys), 2)


def test_the_test_of_neurons_uses_its_own_rate_and_seed():
    memory, rule, keys = slight()
    differences = rule.astype(float) - memory
    shares = []
    for q, seed in ((0.05, 0), (0.3, 0), (0.3, 1), (0.3, 2)):
        found = SignFlips(60, q, seed).significant_share(differences, keys)
        p = sign_flip_test(differences, keys, 60, seed)
        assert found.tolist() == discoveries(p, q).mean(axis=1).tolist()
        shares.append(tuple(found))
    assert len(set(shares)) == 4  # the rate and the seed make a difference here
    again = by_layer(memory, rule, keys, SignFlips(60, 0.3, 2)).significant_share
    assert tuple(again) == shares[3]


def test_the_size_by_split_halves_is_that_of_rule_less_memory():
    memory, rule, keys = slight()
    table = by_layer(memory, rule, keys, SignFlips(60, 0.05, 7))
    differences = rule.astype(float) - memory.astype(float)
    half = split_half(differences, keys, np.random.default_rng(7))
    np.testing.assert_allclose(table.nmd_split_half, half, rtol=1e-12)
    other = split_half(differences, keys, np.random.default_rng(8))
    assert (np.abs(other / half - 1) > 1e-6).all()  # another deal of the keys shows
    assert table.equals(by_layer(memory, rule, keys, SignFlips(60, 0.05, 7)))


def test_the_relative_size_does_not_ask_how_loud_a_layer_is_and_is_0_for_a_silent_one():
    """Layer 1 is layer 0 at a thousandth of its size; layer 2 is silent in both prompts."""
    memory, rule, keys = slight()
    memory, rule = (np.repeat(side[:, :1], 3, axis=1).astype(float) for side in (memory, rule))
    for side in (memory, rule):
        side *= np.array([1, 1e-3, 0])[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        relative = by_layer(memory, rule, keys, TEST).nmd_relative
    length = np.mean([np.linalg.norm(side[:, 0], axis=1).mean() for side in (memory, rule)])
    half = split_half(rule - memory, keys, np.random.default_rng(0))[0]
    assert relative[0] == pytest.approx(half * 60**0.5 / length) and relative[0] > 0.1
    assert relative[1] == pytest.approx(relative[0]) and relative[2] == 0


def test_a_flat_map_correlates_with_nothing_and_warns_of_nothing():
    rng = np.random.default_rng(0)
    a, flat = rng.normal(size=9), np.full(9, 2.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan([pearson(a, flat), pearson(flat, a), pearson(flat, flat)]).all()
        assert np.isnan(pearson(a, np.full(9, 0.1)))  # whose mean is rounded, so its std is not 0
    assert pearson(a, 3 - 2 * a) == pytest.approx(-1)


def test_each_pair_is_drawn_once_and_the_seed_decides_which():
    """Every pair has a key of its own, so the keys count what was drawn."""
    rng = np.random.default_rng(3)
    drawn = {name: (rng.normal(size=(40, 2, 5)), np.arange(40)) for name in ("first", "second")}
    tables = [
        same_behavior_nulls(drawn, n_permutations=60, seed=seed, q=0.4, max_pairs=30)
        for seed in (0, 0, 1)
    ]
    assert tables[0].equals(tables[1])
    assert (tables[0].mean_abs_nmd != tables[2].mean_abs_nmd).all()
    n_keys = tables[0].groupby("behavior").n_keys.first()
    assert n_keys["first"] == n_keys["second"] == 30  # "both" holds a key twice
    assert (tables[0].n_pairs == 30).all()


def test_nulls_of_all_pairs_are_the_seeded_test_of_their_sizes():
    memory, rule, keys = slight()
    differences = rule - memory  # float32, as labs keep them
    table = same_behavior_nulls({"m": (differences, keys)}, n_permutations=60, seed=2, q=0.3)
    own = table[table.behavior == "m"]
    share = SignFlips(60, 0.3, 2).significant_share(differences, keys)
    assert own.significant_share.tolist() == share.tolist()
    assert any(
        (SignFlips(60, 0.3, s).significant_share(differences, keys) != share).any() for s in (0, 1)
    )
    exact = np.abs(differences.astype(float).mean(axis=0)).mean(axis=1)
    np.testing.assert_allclose(own.mean_abs_nmd, exact, rtol=1e-12)


def test_a_behaviour_without_pairs_has_a_row_per_layer_of_undefined_numbers():
    none = np.zeros((0, LAYERS, WIDTH)), np.zeros(0, dtype=int)
    table = same_behavior_nulls({"m": none, "g": none}, n_permutations=9, seed=0)
    expected = [(kind, layer) for kind in ("m", "g", "both") for layer in range(LAYERS)]
    assert list(zip(table.behavior, table.layer)) == expected
    assert np.isnan(table[["significant_share", "mean_abs_nmd"]].to_numpy()).all()
    assert (table[["n_pairs", "n_keys"]] == 0).all(axis=None)
