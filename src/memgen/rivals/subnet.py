"""BalancedSubnet: a learned mask cuts single weights, so that memorized answers go and free ones stay.

Every weight of the feed-forward maps has a score. Per matrix the k smallest |scores| are cut; the
gradient passes straight through the cut to the scores, which start at random (Kaiming uniform), so that
without a step the cut is random pruning. SGD (momentum 0.9, weight decay 5e-4) minimises the mean over
a shuffled batch of batch size times (loss of clean rows, minus loss of memorized ones): it has no lower
bound. Source: Sakarvadia et al. (2025), Mitigating Memorization in Language Models,
`random_subnet_greedy.py`; its loss is over all tokens, ours over the answers, where the loss of
training was.
"""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import torch

from memgen.rivals.feed_forward import LinearMap, linear_maps
from memgen.rivals.interventions import Weights
from memgen.rivals.lessons import (
    Lesson,
    batches,
    checkpoints,
    fitting_beside,
    losses,
    room_for_copies,
)
from memgen.rivals.material import Material, targets
from memgen.rivals.method import Candidate, Method, thinned

SHARES = (0.005, 0.02, 0.05, 0.1, 0.3)  # cut per matrix
RATES = (0.1, 0.02)
N_CHECKPOINTS = 5


class Cut(torch.autograd.Function):
    """Scores to a mask of 0 and 1: the share k with the smallest ones is 0; its gradient is the scores'."""

    @staticmethod
    def forward(ctx, scores: torch.Tensor, share: float) -> torch.Tensor:
        order = scores.flatten().sort(stable=True).indices
        mask = torch.ones(scores.numel(), device=scores.device)
        mask[order[: int(share * scores.numel())]] = 0
        return mask.reshape(scores.shape)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):
        return gradient, None


def balanced(each: torch.Tensor, memorized: torch.Tensor) -> torch.Tensor:
    """The loss of a batch: `each` row's loss `[n]`, bool `memorized` `[n]`."""
    sign = torch.where(memorized, -1.0, 1.0).to(each)
    return (len(each) * sign * each).mean()


def random_scores(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Kaiming uniform with a = sqrt 5 as torch reads a stored `[rows, columns]`: fan-in is the columns."""
    bound = 1 / math.sqrt(shape[1])
    return (torch.rand(shape, generator=generator) * 2 - 1) * bound


def candidates(material: Material, direction: str) -> list[Candidate]:
    """Cut shares and rates, each after several numbers of steps."""
    maps = linear_maps(material.steering.model)
    free, keyed = (
        Lesson.of(material.steering, list(rows.prompt), targets(rows))
        for rows in (material.free, material.keyed)
    )
    lesson = free.joined(keyed)
    memorized = torch.arange(len(lesson), device=lesson.ids.device) >= len(free)
    found = []
    for number, (share, rate) in enumerate(product(SHARES, RATES)):
        fit = _Fit(material, maps, share, material.rng(number))
        found += fit.run(lesson, memorized, rate)
    return thinned(found, material.effort.budget)


class _Fit:
    """The scores of all maps at one cut share."""

    def __init__(
        self, material: Material, maps: list[LinearMap], share: float, rng: np.random.Generator
    ):
        self.material, self.maps, self.share, self.rng = material, maps, share, rng
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        self.scores = [
            random_scores(tuple(one.stored.shape), generator)
            .to(one.stored.device)
            .requires_grad_(True)
            for one in maps
        ]
        self.whole = [one.stored + one.adapter for one in maps]
        self.adapters = [one.adapter for one in maps]

    def weights(self) -> dict[str, torch.Tensor]:
        """What the parameters hold under the cut."""
        return {
            one.parameter: whole * Cut.apply(scores.abs(), self.share) - adapter
            for one, whole, adapter, scores in zip(
                self.maps, self.whole, self.adapters, self.scores, strict=True
            )
        }

    def run(self, lesson: Lesson, memorized: torch.Tensor, rate: float) -> list[Candidate]:
        material = self.material
        model, effort = material.steering.model, material.effort
        steps = effort.steps
        kept, found = checkpoints(steps, N_CHECKPOINTS), []
        optimizer = torch.optim.SGD(self.scores, lr=rate, momentum=0.9, weight_decay=5e-4)
        with fitting_beside(model):
            for step, rows in enumerate(batches(lesson, steps, self.rng, effort.batch), 1):
                optimizer.zero_grad()
                each = losses(model, lesson[rows], self.weights())
                balanced(each, memorized[rows]).backward()
                optimizer.step()
                if step in kept:
                    found.append(self._candidate(rate, step))
        return found

    def _candidate(self, rate: float, step: int) -> Candidate:
        changes = {name: value.detach().clone() for name, value in self.weights().items()}
        return Candidate(
            f"{self.share:.1%} cut, rate {rate:g}, {step} steps",
            {"share": self.share, "rate": rate, "steps": step},
            self.share * (1 + step / 1000),
            Weights(changes),
            step,
        )


METHOD = Method(
    "balanced_subnet",
    "BalancedSubnet",
    "sakarvadia2025memorization",
    "code",
    "editing",
    candidates,
    ("m2g",),
    room_for_copies(len(SHARES) * len(RATES) * N_CHECKPOINTS),
)
