"""What steering costs elsewhere, against a plain forward pass under the same shift."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from memgen.models.generate import tokenize_prompts
from memgen.models.hooks import position_ids, shift
from memgen.steering import side_effects
from memgen.steering.cells import Cell
from memgen.steering.side_effects import Elsewhere
from memgen.steering.steering import Steering, steering_prompts
from memgen.steering.trial import Trial
from memgen.tasks.dataset import free_rows, keyed_rows
from memgen.terms import MEMORY_CODE, RULE_CODE
from steered import ONE


@pytest.fixture
def elsewhere(alike):
    steering, frame, answered = alike
    free, keyed = free_rows(frame, "test", 10), keyed_rows(frame, 12)
    return Elsewhere(steering, free, keyed), steering_prompts(answered, "test", "m2g", 6)


def first_log(steering, rows, delta=None, positions="all") -> np.ndarray:
    """Log-probabilities of the first answer token, without anything of the module under test."""
    ids, mask = tokenize_prompts(steering.tokenizer, list(rows.prompt))
    given = {"input_ids": ids, "attention_mask": mask, "position_ids": position_ids(mask)}
    with torch.inference_mode():
        if delta is None:
            logits = steering.model(**given).logits[:, -1]
        else:
            with shift(steering.model, steering.site, torch.as_tensor(delta).float(), positions):
                logits = steering.model(**given).logits[:, -1]
    return logits.double().log_softmax(-1).numpy()


def test_without_a_shift_nothing_is_lost(elsewhere):
    where, conflict = elsewhere
    found, _ = where.side_effects(np.zeros_like(where.steering.nmd), conflict)
    assert (found["n_free"], found["n_keyed"]) == (10, 12)
    for name in ("free", "keyed"):
        assert found[f"{name}_accuracy_before"] == found[f"{name}_accuracy_after"] == 1
        assert found[f"kl_{name}"] == pytest.approx(0, abs=1e-6)
    assert found["kl_conflict"] == pytest.approx(0, abs=1e-6)


def test_accuracies_anddivergences_of_a_shift(elsewhere):
    """Towards the rule by 1: free prompts overshoot past it, keyed ones leave memory for the rule."""
    where, conflict = elsewhere
    steering = where.steering
    delta = Trial(steering, "m2g", Cell(ONE, 1.0), conflict).shift
    found, codes = where.side_effects(delta, conflict)
    assert codes.tolist() == [[MEMORY_CODE] * len(conflict), [RULE_CODE] * len(conflict)]
    np.testing.assert_array_equal(codes, steering.outcomes(np.stack([0 * delta, delta]), conflict))
    assert found["free_accuracy_before"] == 1 and found["keyed_accuracy_before"] == 1
    assert found["free_accuracy_after"] == 1 and found["keyed_accuracy_after"] == 0
    for name, rows in (("free", where.free), ("keyed", where.keyed), ("conflict", conflict)):
        own, other = first_log(steering, rows), first_log(steering, rows, delta)
        expected = (np.exp(own) * (own - other)).sum(-1).mean()
        assert expected > 0.01
        assert found[f"kl_{name}"] == pytest.approx(expected, rel=1e-4)


def test_what_is_shown_without_a_shift_is_read_once_for_all_shifts(elsewhere, monkeypatch):
    where, conflict = elsewhere
    delta = Trial(where.steering, "m2g", Cell(ONE, 1.0), conflict).shift
    fresh = Elsewhere(where.steering, where.free, where.keyed).side_effects(2 * delta, conflict)
    where.side_effects(delta, conflict)
    swept, sweep = [], where.steering.sweep
    monkeypatch.setattr(
        where.steering, "sweep", lambda *asked: swept.append(asked) or sweep(*asked)
    )
    found = where.side_effects(2 * delta, conflict)
    assert len(swept) == 3 and all(shifts.any() for shifts, _ in swept)
    assert found[0] == fresh[0] and (found[1] == fresh[1]).all()
    where.side_effects(delta, conflict[:4])  # other prompts
    assert len(swept) == 7


def test_a_shift_that_breaks_free_prompts_is_seen(elsewhere):
    where, conflict = elsewhere
    delta = Trial(where.steering, "m2g", Cell(ONE, 4.0), conflict).shift
    assert where.side_effects(delta, conflict)[0]["free_accuracy_after"] == 0


def test_the_shift_is_at_the_positions_at_which_the_model_is_steered(elsewhere):
    """Earlier tokens reach the decision through attention, here made to read them."""
    where, conflict = elsewhere
    model = copy.deepcopy(where.steering.model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for block in model.transformer.h:
            block.attn.c_proj.weight.normal_(0, 0.5, generator=generator)
            block.attn.c_attn.weight.normal_(0, 0.5, generator=generator)
    given = where.steering
    delta, found = np.zeros_like(given.nmd), {}
    delta[0] = np.random.default_rng(0).normal(size=delta.shape[1])
    for positions in ("all", "decision"):
        steering = Steering(model, given.tokenizer, given.task, given.maps, positions)
        there = Elsewhere(steering, where.free, where.keyed)
        found[positions] = there.side_effects(delta, conflict)[0]["kl_conflict"]
        own, other = (first_log(steering, conflict, one, positions) for one in (None, delta))
        expected = (np.exp(own) * (own - other)).sum(-1).mean()
        assert found[positions] == pytest.approx(expected, rel=1e-3)
    assert abs(found["all"] - found["decision"]) > 0.01


def test_thedivergence_of_many_rows_is_that_of_all_at_once(monkeypatch):
    """Taken a few rows at a time, so that scores of a large vocabulary are not copied whole."""
    rng = np.random.default_rng(0)
    log, other = (
        torch.tensor(rng.normal(size=(7, 11))).log_softmax(-1),
        torch.tensor(rng.normal(size=(7, 11))).log_softmax(-1),
    )
    whole = float((log.exp() * (log - other)).sum(-1).mean())
    for scores in (2**24, 30, 1):
        monkeypatch.setattr(side_effects, "SCORES", scores)
        assert side_effects.divergence(log, other) == pytest.approx(whole, rel=1e-12)
