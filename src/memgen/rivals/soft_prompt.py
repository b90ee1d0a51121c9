"""A soft prompt: a few trained vectors in front of every prompt, the best that a prompt could say.

They stand where embeddings of tokens would, are the same for all prompts, and are trained by Adam on
train keys so that conflict prompts get the target's answer; with retention also so that free and keyed
prompts get their own. They start as embeddings of random tokens of the prompts. Source: Lester et al.
(2021), The Power of Scale for Parameter-Efficient Prompt Tuning; the forward pass is that of peft's
prompt tuning, except for one thing.

Where positions are learned, as GPT-2's are, the prompts keep theirs, and the prefix stands at position 0:
a model that never saw its prompts further to the right would fail for that reason alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from memgen.models.checkpoint import context_of
from memgen.models.sites import bare, capped
from memgen.rivals.interventions import Read
from memgen.rivals.lessons import Lesson, batches, checkpoints, fitting_beside
from memgen.rivals.material import Material, targets
from memgen.rivals.method import Candidate, Method, thinned
from memgen.steering.editing import Reach, Writer
from memgen.steering.prompts import Prompts
from memgen.steering.steering import Steering

LENGTHS = (1, 4)
RATES = (0.03,)
N_CHECKPOINTS = 5
SLACK = 2  # tokens that a prompt of another split may have more than those of train keys


@dataclass(frozen=True)
class Prefix:
    """`vectors` `[k, d]` in front of every prompt."""

    vectors: torch.Tensor

    def read(self, steering: Steering, rows: pd.DataFrame) -> Read:
        """What the model says behind the prefix; the model is as it was afterwards."""
        core = bare(steering.model)
        first = core.get_input_embeddings().num_embeddings
        prompts = prefixed(steering.prompts(rows), first, len(self.vectors))
        with longer_vocabulary(core, self.vectors), undisplaced(core, len(self.vectors)):
            return Read(*Writer.of(steering).read(prompts, lambda some: {}, Reach()))


def prefixed(prompts: Prompts, first: int, k: int) -> Prompts:
    """The tokens `first`, ..., `first + k - 1` between the padding and the prompt of every row."""
    ids, mask = prompts.input_ids, prompts.attention_mask
    columns = torch.arange(ids.shape[1] + k, device=ids.device)
    place = columns - (ids.shape[1] - mask.sum(1))[:, None]  # 0 at the first token of the prefix
    tokens = F.pad(ids, (k, 0))
    longer = torch.where((place >= 0) & (place < k), first + place, tokens)
    padding = torch.where(place < 0, F.pad(ids, (0, k)), longer)  # whatever stood there before
    return Prompts(padding, (place >= 0).to(mask.dtype), prompts.candidates)


@contextmanager
def longer_vocabulary(core: nn.Module, vectors: torch.Tensor) -> Iterator[None]:
    """Inside, token ids behind the vocabulary's end have these embeddings; nothing is written there."""
    module = core.get_input_embeddings()
    plain, end = module.forward, module.num_embeddings

    def forward(ids: torch.Tensor) -> torch.Tensor:
        found = plain(ids.clamp(max=end - 1))
        own = vectors.to(found)[(ids - end).clamp(min=0)]
        return torch.where((ids >= end)[..., None], own, found)

    module.forward = forward
    try:
        yield
    finally:
        del module.forward


@contextmanager
def undisplaced(core: nn.Module, k: int) -> Iterator[None]:
    """Inside, learned positions are counted from the k-th token on; those before it have the first one.

    Positions that are rotations are relative: there is nothing to do.
    """
    module = getattr(core.base_model, "wpe", None)
    if module is None:
        yield
        return
    plain = module.forward
    module.forward = lambda places: plain((places - k).clamp(min=0))
    try:
        yield
    finally:
        del module.forward


def losses_behind(model: nn.Module, lesson: Lesson, vectors: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of each row's answer behind the prefix, mean over its tokens, `[n]`."""
    core, k = bare(model), len(vectors)
    embedded = core.get_input_embeddings()(lesson.ids)
    before = vectors.to(embedded).expand(len(lesson), -1, -1)
    with undisplaced(core, k):
        states = core.base_model(
            inputs_embeds=torch.cat([before, embedded], dim=1), use_cache=False
        ).last_hidden_state[:, k:]
    logits = capped(core, core.get_output_embeddings()(states[lesson.wanted])).float()
    each = F.cross_entropy(logits, lesson.targets, reduction="none")
    total = torch.zeros(len(lesson), device=each.device).index_add(0, lesson.rows, each)
    return total / lesson.wanted.sum(1).clamp(min=1)


def room(material: Material) -> int:
    """How many tokens fit in front of any prompt."""
    there = context_of(bare(material.steering.model).config)
    prompts = [*material.conflict.prompt, *material.free.prompt, *material.keyed.prompt]
    longest = max(map(len, material.steering.tokenizer(prompts)["input_ids"]))
    longest += material.steering.task.max_answer_tokens
    return max(LENGTHS) if there is None else there - longest - SLACK


def no_room(material: Material) -> str:
    """A prompt may fill the model's context."""
    return "" if room(material) >= 1 else "no token fits into the model's context beside a prompt"


def candidates(material: Material, direction: str) -> list[Candidate]:
    """Lengths, rates, retention or not, and numbers of steps."""
    found = []
    lengths = sorted({min(k, room(material)) for k in LENGTHS})
    conflict = material.starting(direction)
    wanted = conflict.rule_answer if direction == "m2g" else conflict.memory_answer
    target = _lesson(material, conflict, wanted)
    retained = [_lesson(material, rows, targets(rows)) for rows in (material.free, material.keyed)]
    for number, (k, rate, retain) in enumerate(product(lengths, RATES, (True, False))):
        goals = [target, *retained] if retain else [target]
        for step, vectors in _fitted(material, goals, (k, rate), material.rng(number)):
            kept = "retained" if retain else "not retained"
            found.append(
                Candidate(
                    f"{k} vectors, {kept}, rate {rate:g}, {step} steps",
                    {"vectors": k, "rate": rate, "steps": step, "retain": int(retain)},
                    k * rate * step,
                    Prefix(vectors),
                    step,
                )
            )
    return thinned(found, material.effort.budget)


def _lesson(material: Material, rows: pd.DataFrame, answers) -> Lesson:
    return Lesson.of(material.steering, list(rows.prompt), list(answers))


def _fitted(
    material: Material, goals: list[Lesson], form: tuple[int, float], rng: np.random.Generator
) -> list[tuple[int, torch.Tensor]]:
    """`(steps, vectors)` at every checkpoint."""
    model, effort = material.steering.model, material.effort
    k, rate = form
    embeddings = bare(model).get_input_embeddings()
    seen = goals[0].ids.unique().cpu().numpy()
    start = torch.from_numpy(rng.choice(seen, k)).to(goals[0].ids.device)
    vectors = embeddings(start).detach().clone().float().requires_grad_(True)
    optimizer = torch.optim.Adam([vectors], lr=rate)
    streams = [batches(goal, effort.steps, rng, effort.batch) for goal in goals]
    kept, found = checkpoints(effort.steps, N_CHECKPOINTS), []
    with fitting_beside(model):
        for step, rows in enumerate(zip(*streams, strict=True), 1):
            loss = sum(
                losses_behind(model, goal[some], vectors).mean()
                for goal, some in zip(goals, rows, strict=True)
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step in kept:
                found.append((step, vectors.detach().clone()))
    return found


METHOD = Method("soft_prompt", "Soft prompt", "lester2021prompt", "code", "steering", candidates)
