"""What is done to a model is undone; and all three kinds are read alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from memgen.rivals.interventions import Edits, Shift, Weights, exchanged, untouched
from memgen.steering.editing import Reach
from memgen.terms import MEMORY_CODE, RULE_CODE


@pytest.fixture
def rows(board):
    return board.testing.turned["m2g"]


def one_up(material) -> np.ndarray:
    """Coordinate 0 after the second block, one up: every answer from memory becomes the rule's."""
    delta = np.zeros((2, 8))
    delta[1, 0] = 1.0
    return delta


def test_shift_edit_and_weights_that_do_the_same_are_read_the_same(material, rows):
    steering, delta = material.steering, one_up(material)
    step = torch.tensor([1.0, *[0.0] * 7])
    bias = steering.model.transformer.h[1].mlp.c_proj.bias.detach().clone()
    same = [
        Shift(delta, "all"),
        Shift(delta, "decision"),
        Edits({("resid_post", 1): lambda vector: vector + step}),
        Edits(lambda steering, rows: lambda some: {("resid_post", 1): lambda v: v + step}),
        Weights({"transformer.h.1.mlp.c_proj.bias": bias + step}),
    ]
    first = same[0].read(steering, rows)
    assert (first.codes == RULE_CODE).all() and first.right(RULE_CODE) == 1.0
    for other in same[1:]:
        read = other.read(steering, rows)
        assert np.array_equal(read.codes, first.codes)
        assert torch.allclose(read.log_probs, first.log_probs, atol=1e-5)
    before = untouched(steering).read(steering, rows)
    assert (before.codes == MEMORY_CODE).all() and before.codes.dtype == np.int8
    assert before.log_probs.shape == (len(rows), len(steering.tokenizer))
    assert torch.allclose(before.log_probs.exp().sum(-1), torch.ones(len(rows)), atol=1e-5)


def test_an_edit_may_reach_the_last_token_alone(material, rows):
    seen = []

    def look(vector):
        seen.append(vector.shape[1])
        return vector

    Edits({("resid_post", 0): look}, Reach(back=1)).read(material.steering, rows)
    assert set(seen) == {1}


def test_weights_come_back_bit_for_bit_after_an_error_too(material, rows):
    model = material.steering.model
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    held = dict(model.named_parameters())
    changes = {name: torch.randn_like(value) for name, value in before.items() if "mlp" in name}
    found = Weights(changes).read(material.steering, rows)
    assert not torch.equal(
        found.log_probs, untouched(material.steering).read(material.steering, rows).log_probs
    )
    with pytest.raises(RuntimeError), exchanged(model, changes):
        raise RuntimeError("in the middle")
    with pytest.raises(ValueError, match=r"wte.weight is \[\d+, 8\].*\[2\]"):
        Weights(changes | {"transformer.wte.weight": torch.zeros(2)}).read(material.steering, rows)
    with pytest.raises(KeyError, match="no parameter 'nowhere'"):
        Weights(changes | {"nowhere": torch.zeros(2)}).read(material.steering, rows)
    for name, value in model.named_parameters():
        assert value is held[name] and torch.equal(value, before[name])
