"""A vector that is fitted by gradient: it finds what was planted, and leaves alone what it should."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from capitals import CITIES, Capitals, asked_model
from memgen.models.hooks import hooked, vector_of, with_vector
from memgen.models.sites import site_modules
from memgen.neurons.nmd import NeuronMaps
from memgen.steering.cells import Cell
from memgen.steering.choice import Collateral
from memgen.steering.optimised import (
    Examples,
    Forced,
    Recipe,
    candidates,
    fitted,
    layer_sets,
    optimised,
)
from memgen.steering.rivals import NO_RIVALS, Yardstick
from memgen.steering.side_effects import Elsewhere
from memgen.steering.steering import Steering, steering_prompts
from memgen.steering.trial import Trial
from memgen.tasks.dataset import free_rows, keyed_rows
from memgen.terms import DIRECTIONS, MEMORY_CODE, RULE_CODE, TARGET
from steered import ONE

QUICK = Recipe(steps=12, rows=6, checkpoints=3, rate=0.15)
BOTH = ["optimised", "optimised_kept"]


def clear_cut(steering: Steering) -> Steering:
    """The same answers, all but certain: so that a loss is small only where the answer is right."""
    model = copy.deepcopy(steering.model)
    model.lm_head.weight.data *= 20
    return Steering(model, steering.tokenizer, steering.task, steering.maps, steering.positions)


@pytest.fixture(params=DIRECTIONS)
def tried(alike, request):
    """A trial, examples of train keys, and what a rival is measured by."""
    given, frame, answered = alike
    steering, direction = clear_cut(given), request.param
    rows, tuning, train = (
        steering_prompts(answered, split, direction, 20)
        for split in ("test", "validation", "train")
    )
    stay = [(free_rows(frame, "train", 8), RULE_CODE)]
    free = Collateral(steering, free_rows(frame, "validation", 10), 0.0)
    elsewhere = Elsewhere(steering, free_rows(frame, "test", 10), keyed_rows(frame, 12))
    trial = Trial(steering, direction, Cell(ONE, 1.0), rows)
    return trial, Examples(train, stay), Yardstick(tuning, [free], elsewhere)


def test_a_planted_vector_is_found(tried):
    trial, examples, by = tried
    bars, facts, rows = optimised(trial, examples, QUICK, by)
    assert list(bars) == BOTH and bars["optimised"].success == 1.0
    found = facts["optimised"]
    assert found["validation_success"] == 1.0 and found["steps"] in QUICK.stops
    assert found["grid_rows"] == len(layer_sets(2)) * 2 * 3 * len(by.tuning)
    assert {"free_accuracy_after", "keyed_accuracy_after", "kl_free", "retained"} <= set(found)
    assert set(rows.kind) <= set(BOTH) and len(rows[rows.kind == "optimised"]) == len(trial.rows)
    # from memory to rule free prompts stay as they are anyway; the other way they are turned, too
    kept = bars["optimised_kept"].success
    assert kept == 1.0 if trial.direction == "m2g" else not kept


def test_weights_are_as_they_were(tried):
    trial, examples, _ = tried
    model = trial.steering.model
    model.lm_head.weight.requires_grad_(False)
    asking = [weight.requires_grad for weight in model.parameters()]
    before = copy.deepcopy(model.state_dict())
    found = candidates(trial.steering, trial.direction, examples, replace(QUICK, steps=3))
    assert len(found) == 3 * 2 * 3 and all(vector.any() for vector, _ in found)
    assert [weight.requires_grad for weight in model.parameters()] == asking
    assert any(asking) and not all(asking)
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert all(weight.grad is None for weight in model.parameters())
    assert not model.training


def test_it_is_moved_at_its_layers_only_and_the_same_again(tried):
    trial, examples, _ = tried
    turn = Forced.of(trial.steering, examples.turn, TARGET[trial.direction])
    for layers in layer_sets(2):
        (steps, found), *more = fitted(layers, turn, [], QUICK)
        assert steps == QUICK.stops[0] and [step for step, _ in more] == QUICK.stops[1:]
        assert np.flatnonzero(found.any(axis=1)).tolist() == layers
        (_, again), *_ = fitted(layers, turn, [], QUICK)
        np.testing.assert_array_equal(found, again)


def test_retention_keeps_free_prompts_that_are_lost_without_it(alike):
    """Conflict prompts lie at 1, free ones are put to 1.4, and below 0.6 the answer is the memory's."""
    given, frame, answered = alike
    steering = clear_cut(given)
    words = steering.model.transformer.wte.weight.data
    words[steering.tokenizer.convert_tokens_to_ids("far-rule"), 0] = 1.4
    frame = frame.assign(prompt=frame.prompt.str.replace("near-rule", "far-rule"))
    turn = Forced.of(steering, steering_prompts(answered, "train", "g2m", 20), MEMORY_CODE)
    free = free_rows(frame, "train", 8)
    stay = Forced.of(steering, free, RULE_CODE)
    recipe = replace(QUICK, steps=40, checkpoints=1)
    tested, held = steering_prompts(answered, "test", "g2m", 20), free_rows(frame, "test", 10)
    for to_stay, right in (([], 0.0), ([stay], 1.0)):
        ((_, vector),) = fitted([1], turn, to_stay, recipe)
        assert (steering.outcomes(vector[None], tested) == MEMORY_CODE).all()
        assert (steering.outcomes(vector[None], held) == RULE_CODE).mean() == right


@pytest.mark.parametrize("positions", ["all", "decision"])
@pytest.mark.parametrize("site", ["resid_post", "mlp_out", "ln_2"])
def test_the_loss_is_that_of_the_steered_model(positions, site):
    """-log p of an answer of several tokens, one prompt at a time through plain hooks without a cache."""
    model, tokenizer = asked_model()
    maps = NeuronMaps(site, np.ones((2, 16)), np.ones((2, 16)))
    steering = Steering(model, tokenizer, Capitals(8, 0), maps, positions)
    prompts = ["In place1 lies", "The capital of place2 is place3 is", "In place4 is"]
    rule = [CITIES[1], CITIES[2] + CITIES[3], CITIES[0] + CITIES[0]]
    rows = pd.DataFrame({"prompt": prompts, "memory_answer": CITIES[5], "rule_answer": rule})
    forced = Forced.of(steering, rows, RULE_CODE)
    rng = torch.Generator().manual_seed(0)
    for layers in ([0], [1], [0, 1]):
        delta = {layer: torch.randn(16, generator=rng) for layer in layers}
        losses, kls = [], []
        for prompt, answer in zip(prompts, rule):
            ids = tokenizer(prompt)["input_ids"]
            wanted = tokenizer(answer, add_special_tokens=False)["input_ids"]
            first = 0 if positions == "all" else len(ids) - 1
            with torch.no_grad():
                shifted, plain = (
                    _scores(steering, ids + wanted[:-1], one, first)[len(ids) - 1 :]
                    for one in (delta, {})
                )
            losses.append(-sum(shifted[i, token] for i, token in enumerate(wanted)))
            kls.append((plain.exp() * (plain - shifted)).sum(-1))
        with torch.no_grad():
            every = torch.arange(3)
            found = forced.unlikely(every, delta), forced.moved(every, delta)
        assert found[0] == pytest.approx(float(torch.stack(losses).mean()), rel=1e-4)
        assert found[1] == pytest.approx(float(torch.cat(kls).mean()), rel=1e-4, abs=1e-6)


def _scores(steering, ids, delta, first):
    """Log-probabilities `[tokens, vocabulary]` with vectors added from the token `first` on."""

    def adding(vector):
        def hook(module, args, output):
            states = vector_of(output).clone()
            states[:, first:] += vector
            return with_vector(output, states)

        return hook

    modules = site_modules(steering.model, steering.site)
    with hooked([modules[layer] for layer in delta], [adding(vector) for vector in delta.values()]):
        return steering.model(torch.tensor([ids])).logits[0].log_softmax(-1)


def test_an_answer_of_a_trained_task_has_its_end_mark(tried):
    trial, examples, _ = tried
    forced = Forced.of(trial.steering, examples.turn, RULE_CODE)
    assert (forced.answers[:, -1] == trial.steering.tokenizer.eos_token_id).all()


def test_what_is_not_asked_for_is_not_there(tried):
    trial, examples, by = tried
    assert optimised(trial, examples, Recipe(0), by) is NO_RIVALS
    none = replace(examples, turn=examples.turn.iloc[:0])
    assert optimised(trial, none, QUICK, by) is NO_RIVALS


def test_layers_and_stops():
    assert layer_sets(1) == [[0]] and layer_sets(2) == [[0], [1], [0, 1]]
    assert layer_sets(30) == [[14], [19], [*range(30)]]
    assert Recipe(20).stops == [5, 10, 15, 20] and Recipe(2).stops == [1, 2]
    assert Recipe(1, checkpoints=3).stops == [1]


@pytest.mark.parametrize("positions", ["all", "decision"])
def test_what_is_trimmed_is_read_by_nobody(alike, positions):
    """Log-probabilities and gradients are those of the whole pass, shifts in the last block included."""
    given, _, answered = alike
    rows = steering_prompts(answered, "train", "m2g", 6)
    for site in ("resid_post", "mlp_out", "ln_2"):
        steering = given.at(replace(given.maps, site=site))
        steering.positions = positions
        asked, found = torch.arange(len(rows)), []
        for trimmed in (False, True):
            forced = Forced.of(steering, rows, RULE_CODE, trimmed)
            delta = {layer: torch.full((8,), 0.3, requires_grad=True) for layer in (0, 1)}
            with torch.enable_grad():
                log = forced.shifted(asked, delta)
                forced.unlikely(asked, delta).backward()
            found.append((log.detach(), delta[0].grad, delta[1].grad))
        for whole, part in zip(*found, strict=True):
            assert torch.allclose(whole, part, atol=1e-5), site
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in given.model.modules())
