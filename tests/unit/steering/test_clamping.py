"""A clamp pulls states towards a mean, an addition pushes all of them alike; both leave no hook."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from memgen.models.build import build_model
from memgen.models.generate import answer, tokenize_prompts
from memgen.models.hooks import capture, shift
from memgen.neurons.nmd import NeuronMaps
from memgen.steering.clamping import Moves, answered, distance, moved
from memgen.steering.steering import Steering, steering_prompts
from memgen.tasks import instances
from memgen.tasks.answers import behaviors

M, R, X = 0, 1, 2


def hooks_left(model) -> bool:
    return any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def prompts(alike, direction="m2g"):
    steering, _, answered = alike
    rows = steering_prompts(answered, "test", direction, 20)
    return steering, rows, tokenize_prompts(steering.tokenizer, list(rows.prompt))


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 2.0])
def test_a_clamp_moves_the_chosen_neurons_towards_the_mean(alike, strength):
    steering, rows, (ids, mask_) = prompts(alike)
    mean, mask = np.random.default_rng(0).normal(size=(2, 8)), np.zeros((2, 8), dtype=bool)
    mask[1, [0, 3]] = True
    before = capture(steering.model, ids, mask_).numpy()
    moves = Moves.clamps(mean, mask, [3.0, strength])
    edits = moves.edits(steering, torch.ones(len(rows), dtype=torch.long))
    assert list(edits) == [("resid_post", 1)]  # a layer without chosen neurons is left alone
    after = edits["resid_post", 1](torch.from_numpy(before[:, None, 1]))[:, 0].numpy()
    expected = before[:, 1] + strength * np.where(mask[1], mean[1] - before[:, 1], 0)
    np.testing.assert_allclose(after, expected, atol=1e-5)
    assert strength or (after == before[:, 1]).all()
    found = moved(steering, rows, moves)
    full = distance(steering, rows, mean, mask)
    assert found == pytest.approx([3 * full, strength * full], rel=1e-4)
    assert not hooks_left(steering.model)


@pytest.mark.parametrize(
    "mean, mask, strength",
    [
        (np.zeros((3, 8)), np.ones((2, 8)), 1.0),
        (np.zeros((2, 8)), np.ones((2, 7)), 1.0),
        (np.full((2, 8), np.nan), np.ones((2, 8)), 1.0),
        (np.zeros((2, 8)), np.ones((2, 8)), np.inf),
    ],
)
def test_what_does_not_fit_the_model_is_refused(alike, mean, mask, strength):
    steering, rows, _ = prompts(alike)
    with pytest.raises(ValueError):
        answered(steering, rows, Moves.clamps(mean, mask, [strength]))
    assert not hooks_left(steering.model)


def test_adding_is_the_shift_at_decision_positions(alike):
    steering, rows, _ = prompts(alike)
    delta = np.zeros((2, 8))
    delta[1, 0] = 1.0
    moves = Moves.clamps(np.zeros((2, 8)), np.zeros((2, 8)), [1.0]).and_add(delta)
    with shift(steering.model, "resid_post", torch.from_numpy(delta), "decision"):
        texts = answer(steering.model, steering.tokenizer, list(rows.prompt), 2)
    expected = behaviors(steering.task, instances(rows), texts)
    nothing, added = answered(steering, rows, moves)
    assert added.tolist() == expected.tolist() and (nothing == M).all()
    assert (answered(steering, rows, moves, generated=False)[1] == R).all()
    assert moved(steering, rows, moves) == pytest.approx([0.0, 1.0])


def test_a_clamp_at_generated_tokens_can_lose_the_rest_of_the_answer(alike):
    """Coordinate 3 is 0 at the end of prompts and tells, at an answer's token, that the end has
    come.
    """
    steering, rows, _ = prompts(alike)
    mean, mask = np.zeros((2, 8)), np.zeros((2, 8), dtype=bool)
    mask[1, 3] = True
    codes = {
        generated: answered(steering, rows, Moves.clamps(mean, mask, [1.0]), generated)[0]
        for generated in (True, False)
    }
    assert (codes[True] == X).all() and (codes[False] == M).all()


def ragged(alike, site: str):
    """`(steering, rows, states [prompts, 2, 8])` of a random model: prompts of two lengths, each
    prompt's states read by itself, at the site.
    """
    planted, rows, _ = prompts(alike)
    model = build_model(
        planted.tokenizer,
        n_layer=2,
        n_embd=8,
        n_head=2,
        n_positions=16,
        initializer_range=0.5,
        seed=1,
    ).eval()
    maps = NeuronMaps(site, np.zeros((2, 8)), np.zeros((2, 8)))
    steering = Steering(model, planted.tokenizer, planted.task, maps)
    rows = rows.assign(prompt=["key1 " * (i % 2) + text for i, text in enumerate(rows.prompt)])
    one_by_one = [
        capture(model, torch.tensor([planted.tokenizer(text)["input_ids"]]), site=site)
        for text in rows.prompt
    ]
    return steering, rows, torch.cat(one_by_one).numpy()


@pytest.mark.parametrize("site", ["resid_post", "mlp_out"])
def test_how_far_a_clamp_moves_is_read_at_each_prompts_own_last_token_and_at_the_site(alike, site):
    steering, rows, states = ragged(alike, site)
    mean, mask = np.random.default_rng(0).normal(size=(2, 8)), np.zeros((2, 8), dtype=bool)
    mask[1, [0, 3, 6]] = True
    expected = np.sqrt(((mean - states)[:, mask] ** 2).sum(1)).mean()
    assert distance(steering, rows, mean, mask) == pytest.approx(expected, rel=1e-4)
    (norm,) = moved(steering, rows, Moves.clamps(mean, mask, [0.5]))
    assert norm == pytest.approx(0.5 * expected, rel=1e-4)


def test_the_mean_move_is_over_all_prompts_however_many(alike):
    steering, rows, states = ragged(alike, "resid_post")
    many = pd.concat([rows.iloc[:1]] * 512 + [rows.iloc[1:2]] * 8, ignore_index=True)
    mask = np.zeros((2, 8), dtype=bool)
    mask[1] = True
    last = np.linalg.norm(states[1, 1] - states[0, 1])  # the others are at the mean already
    assert last > 0.1
    (norm,) = moved(steering, many, Moves.clamps(states[0], mask, [1.0]))
    assert norm == pytest.approx(8 * last / 520, rel=1e-3)
