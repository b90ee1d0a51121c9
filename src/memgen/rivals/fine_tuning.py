"""All weights are trained on: to the rule, or away from the memory. What an edit must beat.

*To the rule*: AdamW on the conflict prompts of train keys with the rule's answer, and on free prompts;
with kept keys, on keyed prompts with their memorized answer as well. *Selective unlearning*: gradient
ascent on the memorized answers of keyed prompts, in all weights or in the share of them whose gradient
is largest for memorized prompts against free ones, with or without descent on free prompts (Jang et
al., 2023; the choice of weights is ours). The weights are a copy: the model itself is not touched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from memgen.models.sites import bare
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

RATES = (1e-4, 3e-4, 1e-3)
ASCENT_RATES = (1e-4, 1e-3)
SELECTED = (0.01, 1.0)  # shares of the weights that are unlearned in
N_CHECKPOINTS = 5
DECAY = 0.01
#: a model under weights and a generator to the loss of a step
Loss = Callable[[dict[str, torch.Tensor], list[torch.Tensor]], torch.Tensor]


@dataclass(frozen=True)
class Goal:
    """A lesson whose mean loss counts `weight` times: -1 unlearns it."""

    lesson: Lesson
    weight: float = 1.0


def copied(model) -> dict[str, torch.Tensor]:
    """A copy of all weights, by name, ready to be trained."""
    return {
        name: value.detach().clone().requires_grad_(True)
        for name, value in bare(model).named_parameters()
    }


def trained(
    material: Material,
    goals: list[Goal],
    rate: float,
    rng: np.random.Generator,
    masks: dict[str, torch.Tensor] | None = None,
) -> list[tuple[int, dict[str, torch.Tensor]]]:
    """`(steps, weights that changed)` at every checkpoint; `masks`: bool, which entries may change."""
    model, effort = material.steering.model, material.effort
    weights = copied(model)
    optimizer = torch.optim.AdamW(weights.values(), lr=rate, weight_decay=DECAY if not masks else 0)
    streams = [batches(goal.lesson, effort.steps, rng, effort.batch) for goal in goals]
    kept, found = checkpoints(effort.steps, N_CHECKPOINTS), []
    with fitting_beside(model):
        for step, rows in enumerate(zip(*streams, strict=True), 1):
            loss = sum(
                goal.weight * losses(model, goal.lesson[some], weights).mean()
                for goal, some in zip(goals, rows, strict=True)
            )
            optimizer.zero_grad()
            loss.backward()
            for name, mask in (masks or {}).items():
                if weights[name].grad is not None:
                    weights[name].grad *= mask
            optimizer.step()
            if step in kept:
                found.append((step, {n: value.detach().clone() for n, value in weights.items()}))
    return found


def lesson_of(material: Material, rows, answers) -> Lesson:
    return Lesson.of(material.steering, list(rows.prompt), list(answers))


def to_the_rule(material: Material, direction: str) -> list[Candidate]:
    """Rates and numbers of steps, keys not kept."""
    return _towards(material, keep=False)


def to_the_rule_kept(material: Material, direction: str) -> list[Candidate]:
    """Rates and numbers of steps, keys kept."""
    return _towards(material, keep=True)


def _towards(material: Material, keep: bool) -> list[Candidate]:
    conflict, free, keyed = material.conflict, material.free, material.keyed
    goals = [
        Goal(lesson_of(material, conflict, conflict.rule_answer)),
        Goal(lesson_of(material, free, targets(free))),
    ]
    if keep:
        goals.append(Goal(lesson_of(material, keyed, targets(keyed))))
    found = []
    for number, rate in enumerate(RATES):
        for step, weights in trained(material, goals, rate, material.rng(number)):
            found.append(_candidate(f"rate {rate:g}, {step} steps", rate, step, weights))
    return thinned(found, material.effort.budget)


def _candidate(
    label: str, rate: float, step: int, weights: dict[str, torch.Tensor], **setting: float
) -> Candidate:
    about = {"rate": rate, "steps": step} | setting
    return Candidate(label, about, rate * step, Weights(weights), step)


def most_memorizing(
    memorized: dict[str, torch.Tensor], free: dict[str, torch.Tensor], share: float
) -> dict[str, torch.Tensor]:
    """Bool by name: the share of all weights with the largest |gradient| for memorized less that for free."""
    scores = {name: value.abs() - free[name].abs() for name, value in memorized.items()}
    every = torch.cat([value.flatten() for value in scores.values()])
    n = max(1, round(share * len(every)))
    chosen = torch.zeros(len(every), dtype=torch.bool, device=every.device)
    chosen[every.sort(descending=True, stable=True).indices[:n]] = True
    parts = chosen.split([value.numel() for value in scores.values()])
    return {name: part.reshape(value.shape) for part, (name, value) in zip(parts, scores.items())}


def unlearning(material: Material, direction: str) -> list[Candidate]:
    """Rates, shares of the weights, free prompts retained or not, and numbers of steps."""
    memorized = lesson_of(material, material.keyed, targets(material.keyed))
    free = lesson_of(material, material.free, targets(material.free))
    steep, flat = (_gradient(material, lesson) for lesson in (memorized, free))
    found: list[Candidate] = []
    for share in SELECTED:
        masks = most_memorizing(steep, flat, share) if share < 1 else None
        for retained in (True, False):
            goals = [Goal(memorized, -1.0), Goal(free)] if retained else [Goal(memorized, -1.0)]
            for rate in ASCENT_RATES:
                fits = trained(material, goals, rate, material.rng(len(found)), masks)
                for step, weights in fits:
                    kept = "free retained" if retained else "nothing retained"
                    label = f"{share:.0%} of the weights, {kept}, rate {rate:g}, {step} steps"
                    found.append(
                        _candidate(label, rate, step, weights, share=share, retained=int(retained))
                    )
    return thinned(found, material.effort.budget)


def _gradient(material: Material, lesson: Lesson) -> dict[str, torch.Tensor]:
    """Of the mean loss on the whole lesson, by weight."""
    model, weights = material.steering.model, copied(material.steering.model)
    with fitting_beside(model):
        for rows in torch.arange(len(lesson), device=lesson.ids.device).split(
            material.effort.batch
        ):
            each = losses(model, lesson[rows], weights)
            (each.sum() / len(lesson)).backward()
    return {
        name: torch.zeros_like(value) if value.grad is None else value.grad
        for name, value in weights.items()
    }


_ROOM = room_for_copies(len(RATES) * N_CHECKPOINTS)
RULE = Method(
    "fine_tuning", "Fine-tuning to the rule", "", "ours", "editing", to_the_rule, ("m2g",), _ROOM
)
RULE_KEPT = Method(
    "fine_tuning_kept",
    "Fine-tuning to the rule, keys kept",
    "",
    "ours",
    "editing",
    to_the_rule_kept,
    ("m2g",),
    _ROOM,
)
UNLEARNING = Method(
    "unlearning",
    "Unlearning by gradient ascent",
    "jang2023unlearning",
    "paper",
    "editing",
    unlearning,
    ("m2g",),
    room_for_copies(4 * len(ASCENT_RATES) * N_CHECKPOINTS),
)
