"""Means by position are those of a loop over prompts; an ablation sets what it names and no more."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from memgen.models.components import edited, read
from memgen.steering.necessity import ablating, mean_states
from memgen.steering.prompts import Prompts
from memgen.terms import SITES
from steered import random_model

LENGTHS = (3, 5, 2, 3)


@pytest.fixture(scope="module")
def small():
    """`(model, prompts)`: four prompts of three lengths; only one has the first two positions."""
    tokenizer, model = random_model()
    g = torch.Generator().manual_seed(0)
    mask = (torch.arange(5) >= 5 - torch.tensor(LENGTHS)[:, None]).long()
    ids = torch.randint(2, len(tokenizer), (4, 5), generator=g) * mask
    return model, Prompts(ids, mask, torch.zeros(4, 2, 2, dtype=torch.long))


def states_of(model, prompts: Prompts, row: int, site: str) -> np.ndarray:
    """One prompt's states, read without padding: `[L, positions, d]`."""
    ids = prompts.input_ids[row : row + 1, -LENGTHS[row] :]
    return read(model, ids, torch.ones_like(ids), site)[0].numpy()


@pytest.mark.parametrize("site", SITES)
def test_the_mean_at_a_position_is_over_the_prompts_that_have_it(small, site):
    model, prompts = small
    own, found = [states_of(*small, row, site) for row in range(4)], mean_states(*small, site)
    assert found.shape == (2, 5, 16)
    for back in range(1, 6):
        expected = np.mean([one[:, -back] for one in own if one.shape[1] >= back], axis=0)
        np.testing.assert_allclose(found[:, -back], expected, atol=1e-5)


@pytest.mark.parametrize("positions", ["all", "decision"])
def test_an_ablation_sets_each_rows_neurons_to_the_mean_of_their_position(small, positions):
    model, prompts = small
    mean = np.random.default_rng(0).normal(size=(2, 3, 16))  # of prompts of three tokens
    masks = np.zeros((4, 2, 16), dtype=int)  # 0 and 1 do as well as False and True
    masks[0, 1, [2, 5]] = masks[2, 1, 7] = 1
    edits = ablating(model, "resid_post", mean, masks, positions)
    assert list(edits) == [("resid_post", 1)]  # layer 0 has no neurons
    before = read(model, prompts.input_ids, prompts.attention_mask, "resid_post").numpy()
    with edited(model, edits):
        after = read(model, prompts.input_ids, prompts.attention_mask, "resid_post").numpy()
    expected = before.copy()
    for row, layer, index in np.argwhere(masks):
        for place in range(5) if positions == "all" else [4]:
            # counted from the end; the two places before those of the mean get its first one
            expected[row, layer, place, index] = mean[layer, max(0, place - 2), index]
    np.testing.assert_allclose(after, expected, atol=1e-5)


def test_a_later_pass_over_one_token_gets_the_mean_of_the_last_position(small):
    mean = np.random.default_rng(0).normal(size=(2, 3, 16))
    masks = np.zeros((3, 2, 16), dtype=bool)
    masks[1, 0, 4] = True
    edit = ablating(small[0], "resid_post", mean, masks, "all")["resid_post", 0]
    expected = torch.zeros(3, 1, 16)
    expected[1, 0, 4] = float(mean[0, -1, 4])
    assert torch.allclose(edit(torch.zeros(3, 1, 16)), expected)
