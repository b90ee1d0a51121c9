"""Movement along NMD, planted in pairs of states: found where it is, and not where it is not."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import pytest

from memgen.config.analyses import ConfoundsParameters
from memgen.neurons.movement import context, movement
from memgen.neurons.pairs import same_behavior
from memgen.terms import GENERALIZATION, MEMORIZATION
from planted import ManyKeys, PlantedAlike

N_KEYS, PER_KEY, WIDTH = 24, 10, 6


def pair_differences(rng, n: int, along: float, noise: float = 0.3) -> np.ndarray:
    """`[n, 2, WIDTH]`: `along` coordinate 0 in the second layer, noise everywhere."""
    difference = rng.normal(0, noise, (n, 2, WIDTH))
    difference[:, 1, 0] += along
    return difference


def test_movement_is_measured_in_units_of_the_train_flips():
    rng = np.random.default_rng(0)
    train = pair_differences(rng, 400, 2.0)
    found = {
        "flip": pair_differences(rng, 100, 1.0),
        "memory": pair_differences(rng, 60, 0.0),
        "rule": pair_differences(rng, 40, 0.0),
    }
    keys = {kind: np.arange(len(d)) % 10 for kind, d in found.items()}
    table = movement(train, found, keys, seed=0, n_resamples=200)
    pd.testing.assert_frame_equal(table, movement(train, found, keys, seed=0, n_resamples=200))
    table = table.set_index(["kind", "layer"])
    assert table["mean"]["flip", 2] == pytest.approx(0.5, abs=0.05)  # half as far as in training
    assert table["mean_low"]["flip", 2] < 0.5 < table["mean_high"]["flip", 2]
    for kind, n in (("memory", 60), ("rule", 40), ("same", 100)):
        assert (
            table["mean"][kind, 2] == pytest.approx(0, abs=0.05)
            and table.n[kind, 2] == n
            and table.n_keys[kind, 2] == 10
        )
        assert table["size"][kind, 2] == pytest.approx(
            0.3 / 2 * np.sqrt(2 / np.pi), rel=0.25
        )  # what is left is the noise, in these units
    own = movement(
        train,
        {"flip": train, "memory": train[:0], "rule": train[:0]},
        {"flip": np.arange(400), "memory": [], "rule": []},
        0,
        20,
    )
    np.testing.assert_allclose(own[own.kind == "flip"]["mean"], 1.0)
    assert (
        own[own.kind == "same"][["mean", "size"]].isna().all(axis=None)
        and (own[own.kind == "same"].n == 0).all()
    )


def test_rephrasing_that_moves_the_state_is_seen_in_the_size_and_if_it_drifts_in_the_mean():
    rng = np.random.default_rng(1)
    train = pair_differences(rng, 200, 1.0, 0.05)
    either_way = pair_differences(rng, 100, 0.0, 0.05)
    either_way[:, 1, 0] += np.tile([1.0, -1.0], 50)
    found = {"flip": train, "memory": either_way, "rule": pair_differences(rng, 100, 1.0, 0.05)}
    table = movement(
        train,
        found,
        {"flip": np.arange(200), "memory": np.arange(100), "rule": np.arange(100)},
        0,
        50,
    ).set_index(["kind", "layer"])
    assert table["mean"]["memory", 2] == pytest.approx(0, abs=0.05) and table["size"][
        "memory", 2
    ] == pytest.approx(1, abs=0.05)
    assert table["mean"]["rule", 2] == pytest.approx(1, abs=0.05)


def test_no_train_pair_gives_no_direction():
    some = np.ones((3, 2, WIDTH))
    with np.errstate(divide="raise", invalid="raise"):
        table = movement(
            some[:0],
            {"flip": some, "memory": some, "rule": some},
            dict.fromkeys(("flip", "memory", "rule"), np.arange(3)),
            0,
            10,
        )
    assert table["mean"].isna().all() and (table[table.kind == "flip"].n == 3).all()


def test_flip_pairs_of_test_keys_move_as_those_of_train_keys_do(planted):
    """Where all keys are alike a flip is one unit; the other word of a pair that stays is not seen."""
    model, tokenizer, _, _, answered = planted(PlantedAlike)
    p = ConfoundsParameters(task="inference", pairs="content", n_prompts=24, n_resamples=50)
    found, table = context(model, tokenizer, answered, p)
    assert found["n_train_pairs"] == 12 and found["n_flip"] == 12
    assert found["flip"] == pytest.approx([1, 1]) and found["flip_size"] == pytest.approx([1, 1])
    assert found["flip_interval"] == [pytest.approx([1, 1])] * 2
    assert found["n_flip_keys"] == answered[answered.split == "test"].key.nunique()
    assert set(table.kind) == {"flip", "memory", "rule", "same"} and len(table) == 8
    assert {
        f"{kind}{what}" for kind in ("memory", "rule", "same") for what in ("", "_size")
    } <= set(found)
    test = answered[answered.split == "test"]
    for kind, behavior in (("memory", MEMORIZATION), ("rule", GENERALIZATION)):
        n_pairs = min(12, len(same_behavior(test, behavior, "content")))
        assert found[f"n_{kind}"] == n_pairs > 0
        assert found[f"{kind}_size"] == pytest.approx([0, 0], abs=1e-6)
    assert found["n_same"] == found["n_memory"] + found["n_rule"]


def test_a_test_key_that_moves_further_is_seen(planted):
    """Test keys are `far`: -3 from memory and 2 by the rule, five times as far as train keys."""
    model, tokenizer, _, _, answered = planted()
    p = ConfoundsParameters(task="inference", pairs="content", n_prompts=20, n_resamples=50)
    found, _ = context(model, tokenizer, answered, p)
    assert found["flip"] == pytest.approx([5, 5], rel=1e-4)


def test_one_layer_and_the_fewest_prompts_are_no_error(planted):
    model, tokenizer, _, _, answered = planted(PlantedAlike)
    model = copy.deepcopy(model)
    model.transformer.h = model.transformer.h[:1]
    p = ConfoundsParameters(task="inference", pairs="content", n_prompts=2, n_resamples=20)
    found, table = context(model, tokenizer, answered, p)
    assert found["n_train_pairs"] == found["n_flip"] == found["n_flip_keys"] == 1
    assert found["flip"] == pytest.approx([1]) and len(table) == 4


def test_the_intervals_of_test_pairs_are_those_of_the_seed(planted):
    """Some test prompts are far from the border, others near: pairs move by 1, 2, 4 or 5."""
    model, tokenizer, _, _, answered = planted(ManyKeys, 24)
    rng = np.random.default_rng(0)
    far = (answered.split == "test") & (rng.random(len(answered)) < 0.5)
    prompts = answered.prompt.where(~far, answered.prompt.str.replace("near", "far"))
    p = ConfoundsParameters(
        task="inference", pairs="content", n_prompts=200, n_resamples=20, seed=4
    )
    found, table = context(model, tokenizer, answered.assign(prompt=prompts), p)
    low, high = found["flip_interval"][1]
    assert 1 < low < found["flip"][1] < high < 5
    again, same = context(model, tokenizer, answered.assign(prompt=prompts), p)
    assert again == found
    pd.testing.assert_frame_equal(table, same)
