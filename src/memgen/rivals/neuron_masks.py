"""Masks over the hidden units that keep what memorized answers need: Slimming and Hard Concrete.

Either learns a mask on the activations of the feed-forward parts by minimising the loss of memorized
sequences plus lambda times the mask's size; what stays large is held to be the memory, and the top
share is then set to zero. *Slimming*: the mask starts at 1, its size is the mean |m|, it ends clamped
to [0, 1]. *Hard Concrete*: the mask is drawn anew in every step, sigmoid((logit u + a) / 0.33)
stretched to (-0.1, 1.1) and clamped; its size is the chance of not being zero. Source: Chang et al.
(2024), Do Localization Methods Actually Localize Memorized Data?; Hard Concrete of Louizos et al.
(2018). Their lambda, of thousands, is on the mean over 10^5 units; it is 3 here. They stop at a size of
the mask, here every checkpoint is a candidate.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from memgen.models.components import edited, unit_maps
from memgen.rivals.cna import most, multiplied
from memgen.rivals.interventions import Edits
from memgen.rivals.lessons import Lesson, batches, checkpoints, fitting_beside, losses
from memgen.rivals.material import Material, targets
from memgen.rivals.method import Candidate, Method, thinned
from memgen.steering.editing import Reach

SHARES = (0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4)
LAMBDA, N_CHECKPOINTS, PASSES = 3.0, 4, 3
SLIM_RATE, CONCRETE_RATE = 0.03, 0.1
BETA, LOW, HIGH, AT_START = 0.33, -0.1, 1.1, 0.9

#: scores `[L, units]` and a generator to the mask of a step; scores to the mask's size
Mask = Callable[[torch.Tensor, torch.Generator], torch.Tensor]
Size = Callable[[torch.Tensor], torch.Tensor]


def mean_size(mask: torch.Tensor) -> torch.Tensor:
    """Slimming's penalty: mean |m|."""
    return mask.abs().mean()


def log_alpha(at_start: float = AT_START) -> float:
    """The score whose mask without noise is `at_start`."""
    p = (at_start - LOW) / (HIGH - LOW)
    return math.log(p / (1 - p))


def stretched(s: torch.Tensor) -> torch.Tensor:
    """From (0, 1) to (-0.1, 1.1), clamped to [0, 1]."""
    return (s * (HIGH - LOW) + LOW).clamp(0.0, 1.0)


def concrete(scores: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """A drawn mask; `noise` is uniform on (0, 1), of the scores' shape."""
    u = noise.clamp(0.0001, 0.9999)
    return stretched(torch.sigmoid((u.log() - (1 - u).log() + scores) / BETA))


def chance(scores: torch.Tensor) -> torch.Tensor:
    """Hard Concrete's penalty: the mean chance that a mask is not zero."""
    return torch.sigmoid(scores - BETA * math.log(-LOW / HIGH)).mean()


def slimming(material: Material, direction: str) -> list[Candidate]:
    """The largest masks first."""
    scores = torch.ones(_shape(material))
    return _fitted(material, scores, (lambda mask, _: mask, mean_size), SLIM_RATE)


def hard_concrete(material: Material, direction: str) -> list[Candidate]:
    """The largest scores first."""
    scores = torch.full(_shape(material), log_alpha())

    def drawn(values: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return concrete(values, torch.rand(values.shape, generator=generator).to(values))

    return _fitted(material, scores, (drawn, chance), CONCRETE_RATE)


def _shape(material: Material) -> tuple[int, int]:
    n_layer, n_units, _ = unit_maps(material.steering.model).shape
    return n_layer, n_units


def _fitted(
    material: Material, scores: torch.Tensor, form: tuple[Mask, Size], rate: float
) -> list[Candidate]:
    mask_of, size_of = form
    model, effort = material.steering.model, material.effort
    rows, rng = material.keyed, material.rng(0)
    lesson = Lesson.of(material.steering, list(rows.prompt), targets(rows))
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    scores = scores.to(lesson.ids.device).requires_grad_(True)
    optimizer, steps = torch.optim.Adam([scores], lr=rate), PASSES * effort.steps
    kept, found = checkpoints(steps, N_CHECKPOINTS), []
    with fitting_beside(model):
        for step, some in enumerate(batches(lesson, steps, rng, effort.batch), 1):
            mask = mask_of(scores, generator)
            edits = {("units", layer): _times(own) for layer, own in enumerate(mask)}
            with edited(model, edits):
                loss = losses(model, lesson[some]).mean() + LAMBDA * size_of(scores)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step in kept:
                found += _candidates(scores.detach().cpu().double().numpy(), step)
    return thinned(found, effort.budget)


def _times(own: torch.Tensor):
    return lambda units: units * own.to(units)


def _candidates(scores: np.ndarray, step: int) -> list[Candidate]:
    return [
        Candidate(
            f"{share:.1%} of the units after {step} steps",
            {"share": share, "steps": step},
            share,
            Edits(multiplied(most(scores, share), 0.0), Reach(None, generated=True)),
            step,
        )
        for share in SHARES
    ]


SLIMMING = Method(
    "slimming", "Slimming", "chang2024localization", "code", "editing", slimming, ("m2g",)
)
HARD_CONCRETE = Method(
    "hard_concrete",
    "Hard Concrete",
    "chang2024localization",
    "code",
    "editing",
    hard_concrete,
    ("m2g",),
)
