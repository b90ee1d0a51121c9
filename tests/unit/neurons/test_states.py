"""Which prompts are read, their labels, their states, and how large the states are."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import pytest
import torch

from memgen.models.hooks import capture
from memgen.neurons.pairs import flips
from memgen.neurons.states import (
    Known,
    different_prompts,
    hidden_states,
    is_rule,
    labelled,
    mean_norm,
    pair_states,
    read_labelled,
    states_at,
)
from memgen.tasks.dataset import spread
from memgen.terms import SITES


def test_the_mean_norm_is_over_all_layers_together():
    norms = mean_norm(np.full((2, 2, 2), 1.0), np.full((2, 2, 2), 2.0))
    assert norms == pytest.approx(3.0)  # norms 2 and 4


ANSWERED = pd.DataFrame(
    [
        ("b", 1, 1, "memorization", "train", "two"),
        ("b", 1, 0, "generalization", "train", "three"),
        ("a", 0, 0, "generalization", "train", "one"),
        ("a", 0, 1, "other", "train", "four"),
        ("a", 0, 2, "memorization", "test", "five"),
        ("b", 2, 0, "generalization", "train", "three"),
    ],
    columns=["key", "group", "rephrasing", "behavior", "split", "prompt"],
)


def test_prompts_are_different_and_in_the_order_of_keys_groups_and_rephrasings():
    found = different_prompts(ANSWERED, 10)
    assert found.prompt.tolist() == ["one", "four", "five", "three", "two"]
    assert found.index.tolist() == [0, 1, 2, 3, 4]
    assert list(found.columns) == list(ANSWERED.columns)
    few = different_prompts(ANSWERED, 2)
    assert sorted(few.key) == ["a", "b"]  # evenly over the keys


def test_labelled_prompts_are_of_one_split_and_show_a_behaviour():
    found = labelled(ANSWERED, "train", 10)
    assert found.prompt.tolist() == ["one", "three", "two"]
    assert is_rule(found).tolist() == [1, 1, 0] and is_rule(found).dtype == int
    assert labelled(ANSWERED, "test", 10).prompt.tolist() == ["five"]
    assert labelled(ANSWERED, "validation", 10).empty


def test_states_are_those_of_the_last_token_of_each_prompt(planted):
    """Coordinate 0 there is what the last word says."""
    model, tokenizer, task, _, answered = planted()
    rows = labelled(answered, "train", 12)
    of = read_labelled(model, tokenizer, rows, "resid_post")
    expected = rows.prompt.str.split().str[-1].map(task.STATE)
    np.testing.assert_allclose(of.states[:, -1, 0], expected, atol=1e-6)
    assert len(of) == len(rows) and of.states.dtype == np.float32
    assert of.examples.keys.tolist() == rows.key.tolist()
    assert of.examples.labels.tolist() == is_rule(rows).tolist()
    assert of.examples.states is of.states
    some = of[np.arange(len(of)) % 2 == 1]
    assert list(some.rows.columns) == list(rows.columns)
    assert some.rows.index.tolist() == list(range(len(some)))
    assert some.rows.prompt.tolist() == rows.prompt[1::2].tolist()
    np.testing.assert_array_equal(some.states, of.states[1::2])
    assert hidden_states(model, tokenizer, [], "resid_post").shape == (0, 2, 8)


def test_what_is_known_is_looked_up_and_what_is_not_is_read(planted):
    model, tokenizer, _, _, answered = planted()
    prompts = answered.prompt.unique()
    told = {"resid_post": np.arange(len(prompts) * 16.0).reshape(-1, 2, 8)}
    known = Known.of(pd.DataFrame({"prompt": [*prompts, prompts[0]]}), told)
    some = [prompts[3], prompts[0], prompts[3]]
    found = hidden_states(model, tokenizer, some, "resid_post", known)
    np.testing.assert_array_equal(found, told["resid_post"][[3, 0, 3]])
    for asked, site in ((some, "mlp_out"), ([*some, f"word1 {prompts[0]}"], "resid_post")):
        found = hidden_states(model, tokenizer, asked, site, known)
        np.testing.assert_array_equal(found, hidden_states(model, tokenizer, asked, site))
    found = states_at(model, tokenizer, some, SITES, known)
    np.testing.assert_array_equal(
        found["resid_post"], hidden_states(model, tokenizer, some, "resid_post")
    )


@pytest.fixture
def noisy(planted):
    """The planted model with blocks that do something, so that sites differ."""
    model, tokenizer, _, _, answered = planted()
    model = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for block in model.transformer.h:
            for part in (block.attn.c_proj, block.mlp.c_proj):
                part.weight.normal_(0, 0.3, generator=generator)
    return model, tokenizer, answered


def alone(model, tokenizer, prompts, site: str) -> np.ndarray:
    """The states of each prompt read by itself, so without padding."""
    texts = [torch.tensor([tokenizer(prompt)["input_ids"]]) for prompt in prompts]
    return torch.cat([capture(model, ids, site=site) for ids in texts]).numpy()


def test_a_prompts_states_do_not_depend_on_the_longer_prompts_beside_it(noisy):
    model, tokenizer, answered = noisy
    prompts = [answered.prompt[0], "word1 word2 word3 " + answered.prompt[1], answered.prompt[2]]
    for site in SITES:
        found = hidden_states(model, tokenizer, prompts, site)
        expected = alone(model, tokenizer, prompts, site)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_pair_states_are_the_stored_ones_at_their_site_and_read_again_elsewhere(noisy):
    model, tokenizer, answered = noisy
    longer = np.arange(len(answered)) % 3 == 0  # prompts of different lengths
    answered = answered.assign(
        prompt=answered.prompt.where(~longer, "word1 word2 " + answered.prompt)
    )
    stored = {"memory": np.full((5, 2, 8), 7.0), "rule": np.full((5, 2, 8), 8.0)}
    train = answered[answered.split == "train"].reset_index(drop=True)
    pairs = spread(flips(train, "content"), 5)
    states, keys = pair_states(model, tokenizer, answered, stored, "ln_2", "content")
    assert states["ln_2"][0] is stored["memory"] and states["ln_2"][1] is stored["rule"]
    assert set(states) == set(SITES) and keys.tolist() == pairs.key.tolist()
    for site in set(SITES) - {"ln_2"}:
        for side, found in zip(("memory", "rule"), states[site]):
            prompts = train.prompt[pairs[side]]
            expected = alone(model, tokenizer, prompts, site)
            assert np.abs(expected).max() > 0.01
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
