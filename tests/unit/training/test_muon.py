"""Muon in float32 against torch's, which multiplies in bfloat16."""

from __future__ import annotations

import pytest
import torch

from memgen.training.muon import Muon, orthogonalised

GIVEN = {"lr": 0.02, "weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"}
SHAPES = (
    (12, 30),
    (30, 12),
    (16, 16),
    (12, 30),
    (40, 50),
)  # two of one shape, one that is not thin
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


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
    for number, one in state["state"].items():
        other = of_torch["state"][number]
        assert torch.equal(one["momentum_buffer"], other["momentum_buffer"])


def test_an_update_is_turned_into_one_that_moves_all_directions_alike():
    update = torch.randn(20, 8, generator=torch.Generator().manual_seed(1)) * torch.logspace(
        0, 1, 8
    )
    found = orthogonalised(update, COEFFICIENTS, 5, 1e-7)
    before, after = (torch.linalg.svdvals(x) for x in (update, found))
    assert before.max() / before.min() > 5
    assert 0.6 < after.min() and after.max() < 1.3
    left, _, right = torch.linalg.svd(update, full_matrices=False)
    assert torch.nn.functional.cosine_similarity(found.ravel(), (left @ right).ravel(), 0) > 0.97


def test_in_bfloat16_it_rounds_as_much_as_torch_does():
    exact, ours, theirs = (
        trained(kind)[0]
        for kind in (
            Muon,
            lambda values, **how: Muon(values, torch.bfloat16, **how),
            torch.optim.Muon,
        )
    )
    for true, own, other in zip(exact, ours, theirs):
        assert 0 < (own - true).norm() < 2 * (other - true).norm()


def one_by_one(update: torch.Tensor, steps: int) -> torch.Tensor:
    """The iteration as it is published, in float64, on a matrix that is not tall."""
    a, b, c = COEFFICIENTS
    x = update.double() / update.double().norm()
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


@pytest.mark.parametrize("shape", [(12, 12), (12, 20), (12, 48), (48, 12)])
@pytest.mark.parametrize("steps", [1, 2, 5, 6])
def test_steps_taken_together_are_the_published_ones(shape, steps):
    """Also for singular values over five orders of magnitude, which rounding could drown."""
    update = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    update = update @ torch.diag(torch.logspace(0, -5, shape[1]))
    found = orthogonalised(update, COEFFICIENTS, steps, 1e-7)
    expected = one_by_one(update, steps) if shape[0] <= shape[1] else one_by_one(update.T, steps).T
    assert (found - expected).norm() < 2e-5 * expected.norm()


def test_matrices_worked_on_together_are_as_they_are_alone():
    several = torch.randn(3, 8, 20, generator=torch.Generator().manual_seed(3))
    several[1] *= 100  # the size of one is nothing to the others
    found = orthogonalised(several, COEFFICIENTS, 5, 1e-7)
    for one, own in zip(several, found):
        assert torch.allclose(orthogonalised(one, COEFFICIENTS, 5, 1e-7), own, atol=1e-5)


def test_a_matrix_without_a_gradient_stays_and_a_closure_is_refused():
    value = torch.nn.Parameter(torch.ones(3, 4))
    optimizer = Muon([value], **GIVEN)
    optimizer.step()
    assert torch.equal(value, torch.ones(3, 4))
    with pytest.raises(ValueError, match="closure"):
        optimizer.step(lambda: 0.0)
