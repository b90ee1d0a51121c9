"""Muon in float32 against torch's, which multiplies in bfloat16."""

from __future__ import annotations

import pytest
import torch

from memgen.training.muon import Muon, orthogonalised

GIVEN = {"lr": 0.02, "weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"}
SHAPES = ((12, 30), (30, 12), (16, 16))


def trained(kind, nesterov: bool = True) -> tuple[list[torch.Tensor], dict]:
    """Matrices after three steps with the same gradients, and the optimiser's state."""
    draw = torch.Generator().manual_seed(0)
    values = [torch.nn.Parameter(torch.randn(shape, generator=draw)) for shape in SHAPES]
    optimizer = kind(values, nesterov=nesterov, **GIVEN)
    for _ in range(3):
        for value in values:
            value.grad = torch.randn(value.shape, generator=draw)
        optimizer.step()
    return [value.detach() for value in values], optimizer.state_dict()


@pytest.mark.parametrize("nesterov", [True, False])
def test_its_steps_are_those_of_torch_but_for_rounding(nesterov):
    start = trained(lambda values, **_: torch.optim.SGD(values, lr=0.0))[0]
    (ours, state), (theirs, of_torch) = (
        trained(kind, nesterov) for kind in (Muon, torch.optim.Muon)
    )
    for before, own, other in zip(start, ours, theirs):
        moved = other - before
        assert (own - other).norm() < 0.02 * moved.norm()
        assert (own - other).abs().max() > 0  # bfloat16 rounds
    assert state["state"].keys() == of_torch["state"].keys()
    for one, other in zip(state["state"].values(), of_torch["state"].values()):
        assert torch.equal(one["momentum_buffer"], other["momentum_buffer"])


def test_an_update_is_turned_into_one_that_moves_all_directions_alike():
    update = torch.randn(20, 8, generator=torch.Generator().manual_seed(1)) * torch.logspace(
        0, 1, 8
    )
    found = orthogonalised(update, (3.4445, -4.7750, 2.0315), 5, 1e-7)
    before, after = (torch.linalg.svdvals(x) for x in (update, found))
    assert before.max() / before.min() > 5
    assert 0.6 < after.min() and after.max() < 1.3
    left, _, right = torch.linalg.svd(update, full_matrices=False)
    assert torch.nn.functional.cosine_similarity(found.ravel(), (left @ right).ravel(), 0) > 0.97


def test_a_matrix_without_a_gradient_stays_and_a_closure_is_refused():
    value = torch.nn.Parameter(torch.ones(3, 4))
    optimizer = Muon([value], **GIVEN)
    optimizer.step()
    assert torch.equal(value, torch.ones(3, 4))
    with pytest.raises(ValueError, match="closure"):
        optimizer.step(lambda: 0.0)
