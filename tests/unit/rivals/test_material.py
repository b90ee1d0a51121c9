"""What a method may see: train keys alone; and what a shuffle of the labels leaves of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from memgen.neurons.states import hidden_states
from memgen.rivals.caa import mean_difference
from memgen.rivals.material import Effort, Material, targets
from memgen.rivals.pca import directions, pca_center
from memgen.rivals.probe_direction import probe_direction
from memgen.terms import GENERALIZATION, MEMORIZATION


def test_no_prompt_of_a_validation_or_test_key_is_in_it(alike, material):
    _, frame, answered = alike
    train = {name for name, split in zip(frame.key, frame.split) if split == "train" and name}
    for rows in (material.pairs, material.conflict, material.keyed):
        assert len(rows) and set(rows.key) <= train
    held_out = set(frame.prompt[frame.split != "train"]) | set(
        answered.prompt[answered.split != "train"]
    )
    seen = {*material.pairs.memory_prompt, *material.pairs.rule_prompt, *material.free.prompt}
    assert len(material.free) and not held_out & (seen | {*material.conflict.prompt})


def test_pairs_have_the_states_of_their_two_prompts(material):
    steering = material.steering
    for side, prompts in (("memory", "memory_prompt"), ("rule", "rule_prompt")):
        own = hidden_states(
            steering.model, steering.tokenizer, material.pairs[prompts], "resid_post"
        )
        assert np.array_equal(getattr(material, side), own)
        shown = material.conflict.set_index("prompt").behavior.reindex(material.pairs[prompts])
        wanted = {"memory": MEMORIZATION, "rule": GENERALIZATION}[side]
        assert (shown.dropna() == wanted).all() and shown.notna().any()


def test_both_behaviors_are_thinned_out_alike_and_effort_bounds_all(alike):
    steering, frame, answered = alike
    small = Material.of(steering, (answered, frame), [], "order", 0, Effort(n_fit=4, n_states=3))
    assert small.conflict.behavior.value_counts().to_dict() == {MEMORIZATION: 4, GENERALIZATION: 4}
    assert len(small.pairs) == len(small.memory) == 3 and len(small.free) == len(small.keyed) == 4
    assert (small.starting("m2g").behavior == MEMORIZATION).all()


def test_what_was_trained_is_the_memory_on_keyed_prompts_and_the_rule_elsewhere(material):
    assert set(targets(material.keyed)) == {"M"} and set(targets(material.free)) == {"R"}


@pytest.fixture
def many(material) -> Material:
    """The same with 400 pairs of noise in which coordinate 3 of the last layer tells the behaviours apart."""
    rng = np.random.default_rng(0)
    memory, rule = rng.normal(size=(2, 400, 2, 8))
    rule[:, 1, 3] += 2.0
    pairs = material.pairs.iloc[np.arange(400) % len(material.pairs)].reset_index(drop=True)
    return replace(material, pairs=pairs, memory=memory, rule=rule)


def along(material: Material) -> dict[str, float]:
    """By method how much of its direction at the last layer is the planted one, from -1 to 1."""
    found = {
        "caa": mean_difference(material.rule, material.memory)[1],
        "pca": directions(material, pca_center)[1],
        "probe": probe_direction(material.rule[:, 1], material.memory[:, 1])[0],
        "nmd": material.steering.nmd[1],
    }
    return {name: float(of[3] / np.linalg.norm(of)) for name, of in found.items()}


def test_a_shuffle_of_the_labels_takes_the_direction_and_keeps_the_prompts(many):
    true = along(many)
    assert true["caa"] > 0.97 and true["pca"] > 0.97 and true["probe"] > 0.97
    drawn = [replace(many, seed=seed).shuffled() for seed in range(20)]
    # a component has no sign of its own, so its size is no matter; that it points to the rule is
    signs = {name: np.mean([np.sign(along(one)[name]) for one in drawn]) for name in true}
    assert max(map(abs, signs.values())) <= 0.7
    sizes = [
        np.linalg.norm(mean_difference(one.rule, one.memory)[1]) for one in drawn
    ]  # a mean of what cancels
    assert max(sizes) < 0.25 * 2.0
    for one in drawn[:3]:
        assert sorted(one.conflict.prompt) == sorted(many.conflict.prompt)
        both = {frozenset(pair) for pair in one.pairs[["memory_prompt", "rule_prompt"]].values}
        assert both == {
            frozenset(pair) for pair in many.pairs[["memory_prompt", "rule_prompt"]].values
        }
        assert {*one.free.prompt, *one.keyed.prompt} == {*many.free.prompt, *many.keyed.prompt}
        assert 0.2 < (one.conflict.behavior != many.conflict.behavior).mean() < 0.8


def test_who_changes_behavior_changes_the_roles_of_the_answers(many):
    one = many.shuffled()
    turned = (one.conflict.behavior != many.conflict.behavior).to_numpy()
    assert turned.any() and not turned.all()
    assert (one.conflict.memory_answer[turned] == "R").all()
    assert (one.conflict.memory_answer[~turned] == "M").all()
    for key, rows in one.conflict.groupby("key"):  # as many of each behaviour as before
        before = many.conflict.behavior[many.conflict.key == key]
        assert sorted(rows.behavior) == sorted(before)
