"""Pairs of one wording: keys are coupled once, a planted neuron is found and one of the words is not, and
where nothing is planted the test keeps its level.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from memgen.neurons.nmd import NeuronMaps, nmd
from memgen.neurons.nulls import SignFlips
from memgen.neurons.same_wording import (
    ALIKE,
    CLUSTER,
    FLIPS,
    SameWording,
    ask,
    in_one_form,
    numbers_of,
    same_wording_in_words,
)
from memgen.neurons.states import Known
from memgen.stats.permutation import sign_flip_test
from memgen.terms import BEHAVIORS, GENERALIZATION, MEMORIZATION, OTHER
from planted import ManyKeys, Worded

N_FORMS, TEST = 12, SignFlips(500, 0.05, 0)


def asked(seed: int, n_keys: int = 40, by_form: float = 1.0, n_relations: int = 5) -> pd.DataFrame:
    """Every key in every wording. Keys and wordings lean to a behaviour, each by chance."""
    rng = np.random.default_rng(seed)
    of_key, of_form = rng.normal(size=n_keys), by_form * rng.normal(size=N_FORMS)
    rows = []
    for key in range(n_keys):
        for form in range(N_FORMS):
            leans = of_key[key] + of_form[form] + 0.5 * rng.normal()
            behaviour = (
                OTHER if abs(leans) < 0.2 else (MEMORIZATION, GENERALIZATION)[int(leans > 0)]
            )
            about = {"prompt": f"{key} {form}", "key": f"key{key}", "wording": form}
            rows.append(about | {"form": f"{key % n_relations} {form}", "behavior": behaviour})
    return pd.DataFrame(rows)


@pytest.mark.parametrize("wanted", [FLIPS, ALIKE])
def test_a_pair_is_two_keys_in_one_form_and_no_key_is_in_two_couples(wanted):
    rows = asked(0)
    pairs = in_one_form(rows, wanted)
    memory, rule = (rows.loc[pairs[side]].reset_index(drop=True) for side in ("memory", "rule"))
    assert len(pairs) > 20 and (memory.form == rule.form).all() and (memory.key != rule.key).all()
    assert pd.concat([memory.prompt, rule.prompt]).is_unique
    if wanted == FLIPS:
        assert set(memory.behavior) == {MEMORIZATION} and set(rule.behavior) == {GENERALIZATION}
    else:
        assert (memory.behavior == rule.behavior).all() and OTHER not in set(memory.behavior)
        assert pairs.assign(of=memory.key).groupby("couple").of.nunique().max() == 1  # one side
    keys = pairs.couple.drop_duplicates().str.split(" | ", regex=False).explode()
    assert keys.is_unique and 4 < pairs.couple.nunique() <= 20
    assert pairs.equals(in_one_form(rows, wanted))


def states_of(rows: pd.DataFrame, seed: int, *, behaviour: float, words: float) -> np.ndarray:
    """[prompts, 2, 60]: keys differ by chance in every neuron; of the second layer the first ten show the
    behaviour, the next ten the wording's lean to it.
    """
    rng = np.random.default_rng(seed)
    of_key = dict(zip(rows.key.unique(), rng.normal(size=(rows.key.nunique(), 2, 60))))
    states = np.stack([of_key[key] for key in rows.key]) + 0.3 * rng.normal(size=(len(rows), 2, 60))
    rule = (rows.behavior == GENERALIZATION).to_numpy()
    states[:, 1, :10] += behaviour * rule[:, None]
    lean = rows.groupby("wording").behavior.transform(lambda of: (of == GENERALIZATION).mean())
    states[:, 1, 10:20] += words * lean.to_numpy()[:, None]
    return states


def sides(states: np.ndarray, pairs: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return states[pairs.memory], states[pairs.rule]


def test_what_shows_the_behaviour_is_found_and_what_shows_the_words_is_not():
    rows = asked(1)
    states = states_of(rows, 2, behaviour=4.0, words=8.0)
    behaviour = rows.behavior
    pooled = states[behaviour == GENERALIZATION].mean(0) - states[behaviour == MEMORIZATION].mean(0)
    assert pooled[1, 10:20].min() > 1  # all prompts together mix both
    pairs = SameWording.of(rows, 100, 0)
    flips = sides(states, pairs.flips)
    values = nmd(*flips)
    assert values[1, :10].min() > 2 and np.abs(values[1, 10:]).max() < 1.5
    memory, rule = sides(states, pairs.alike)
    reference = np.zeros((2, 60))
    reference[1, :10] = 1
    found = numbers_of(pairs, flips, rule - memory, reference, TEST)
    assert found["significant_share"][0] == 0 and found["significant_share"][1] >= 1 / 6
    assert found["significant_share"][1] < 0.25 and found["correlation"][1] > 0.8
    assert found["correlation"][0] is None and found["cluster"] == CLUSTER
    assert max(found["null_significant_share"]) == 0
    assert found["nmd_relative"][1] > 2 * abs(found["nmd_relative"][0])
    assert found["n_keys"] == 2 * found["n_clusters"] and found["n_null_pairs"] <= found["n_pairs"]
    best = same_wording_in_words(found, [0.0, 0.5])
    assert "most neurons differ in layer 2" in best and "in two wordings 50%" in best


def test_without_a_behaviour_in_the_states_few_are_found_if_couples_flip_together():
    """Keys that lean to a behaviour stay on their side in all pairs: each for itself, they would count
    as many times as they have pairs.
    """
    p = {"couples": [], "pairs": []}
    for seed in range(20):
        rows = asked(seed)
        pairs = SameWording.of(rows, 100, seed).flips
        memory, rule = sides(states_of(rows, 100 + seed, behaviour=0, words=8.0), pairs)
        for name, clusters in (
            ("couples", pairs.couple.to_numpy()),
            ("pairs", np.arange(len(pairs))),
        ):
            p[name].append(sign_flip_test(rule - memory, clusters, 200, seed))
    false = {name: float((np.array(of) <= 0.05).mean()) for name, of in p.items()}
    assert false["couples"] < 0.065 and false["pairs"] > 0.15, false


def test_too_few_couples_are_counted_and_not_tested():
    rows = asked(0, n_keys=2, n_relations=1)
    pairs = SameWording.of(rows, 100, 0)
    states = states_of(rows, 0, behaviour=1, words=0)
    memory, rule = sides(states, pairs.alike)
    found = numbers_of(pairs, sides(states, pairs.flips), rule - memory, np.zeros((2, 60)), TEST)
    assert found["n_clusters"] <= 1 and found["significant_share"] == [None, None]
    assert found["null_significant_share"] == [None, None]
    assert same_wording_in_words(found, [0.0, 0.0]).endswith("too few to test")


def test_a_model_is_asked_and_its_states_are_those_of_the_pairs(planted):
    """Coordinate 0 says what is answered: 0 from memory, 1 by the rule."""
    model, tokenizer, _, _, answered = planted(ManyKeys, 24)
    train = answered[answered.split == "train"]
    rows = ask(model, tokenizer, Worded(24, 0), train)
    assert set(rows.key) == set(train.key) and not set(rows.prompt) & set(train.prompt)
    words = rows.prompt.str.rpartition("-")[2].map({"memory": BEHAVIORS[0], "rule": BEHAVIORS[1]})
    assert (rows.behavior == words).all()
    pairs = SameWording.of(rows, 40, 0)
    maps = NeuronMaps("resid_post", np.eye(2, 8), np.eye(2, 8))
    found, arrays = pairs.compared(model, tokenizer, maps, TEST)
    assert arrays["same_wording.nmd.resid_post"][1, 0] == pytest.approx(1)
    assert arrays["same_wording.rho.resid_post"][1, 0] > 0.99
    assert found["n_pairs"] == len(pairs.flips) <= 40 and found["n_clusters"] >= 5
    known = Known.of(rows, {"resid_post": np.zeros((len(rows), 2, 8), dtype=np.float32)})
    flat = pairs.compared(model, tokenizer, maps, TEST, known)[1]  # these states, and no others
    assert not flat["same_wording.nmd.resid_post"].any()
    assert ask(model, tokenizer, Unworded(24, 0), train) is None
    none = SameWording.of(rows.assign(behavior=OTHER), 40, 0)
    found, arrays = none.compared(model, tokenizer, maps, TEST)
    assert (found["n_pairs"], found["n_keys"], found["n_null_pairs"]) == (0, 0, 0) and arrays == {}
    assert found["nmd_relative"] == [None, None]


class Unworded(ManyKeys):
    def in_forms(self, keys, n):
        return []
