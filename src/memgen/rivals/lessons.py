"""What is learned by gradients: prompts with answers, and the loss of a model on them.

The model's own weights are never written. What is learned (a mask, a vector, weights) is a tensor beside
it: an edit of the pass reads it (`models.components.edited`), or a copy of the model's parameters stands in
for them during one call (`torch.func.functional_call`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from memgen.models.hooks import evaluating
from memgen.models.packed import logits_at
from memgen.models.sites import bare
from memgen.rivals.material import Material
from memgen.steering.steering import Steering

MEMORY = 4 * 2**30  # bytes that a method's candidates may hold of weights, all together


@dataclass(frozen=True)
class Lesson:
    """Prompts with the answer that is wanted of each, one row each.

    `ids` `[n, T]`: prompt, answer and end mark, padded on the right, which nothing before it can see;
    `wanted` bool `[n, T]`: where the next token is one of the answer. Where any new word ends an answer
    (`Task.open_ended`) the end mark is not asked for.
    """

    ids: torch.Tensor
    wanted: torch.Tensor

    @classmethod
    def of(cls, steering: Steering, prompts: Sequence[str], answers: Sequence[str]) -> Lesson:
        """Prompt and answer are tokenized apart, as in training. `ValueError` without any."""
        if not len(prompts):
            raise ValueError("a lesson needs prompts of train keys, and there are none")
        tokenizer = steering.tokenizer
        asked = tokenizer(list(prompts))["input_ids"]
        said = tokenizer(list(answers), add_special_tokens=False)["input_ids"]
        ending = [] if steering.task.open_ended else [tokenizer.eos_token_id]
        said = [answer + ending for answer in said]
        longest = max(len(one) + len(other) for one, other in zip(asked, said, strict=True))
        ids = np.full((len(asked), longest), tokenizer.eos_token_id, dtype=np.int64)
        wanted = np.zeros(ids.shape, dtype=bool)
        for row, (one, other) in enumerate(zip(asked, said, strict=True)):
            ids[row, : len(one) + len(other)] = one + other
            wanted[row, len(one) - 1 : len(one) + len(other) - 1] = True
        device = bare(steering.model).device
        return cls(torch.from_numpy(ids).to(device), torch.from_numpy(wanted).to(device))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: torch.Tensor | slice) -> Lesson:
        return Lesson(self.ids[index], self.wanted[index])

    def drawn(self, n: int, rng: np.random.Generator) -> Lesson:
        """At most n rows without repetition."""
        rows = rng.permutation(len(self))[:n]
        return self[torch.from_numpy(np.sort(rows)).to(self.ids.device)]

    @property
    def targets(self) -> torch.Tensor:
        """The answers' tokens, row by row, `[number wanted]`."""
        return self.ids[:, 1:][self.wanted[:, :-1]]

    @property
    def rows(self) -> torch.Tensor:
        """The row of each wanted token, `[number wanted]`."""
        return self.wanted.nonzero()[:, 0]

    def joined(self, other: Lesson) -> Lesson:
        """Both below each other; padding is never wanted."""
        width = max(self.ids.shape[1], other.ids.shape[1])

        def wide(tokens: torch.Tensor) -> torch.Tensor:
            return F.pad(tokens, (0, width - tokens.shape[1]))

        return Lesson(
            *(torch.cat([wide(one), wide(two)]) for one, two in zip(self._both(), other._both()))
        )

    def _both(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.ids, self.wanted


class _Reading(nn.Module):
    """The model as a function of its weights: logits at the wanted places."""

    def __init__(self, core: nn.Module):
        super().__init__()
        self.core = core

    def forward(self, ids: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return logits_at(self.core, ids, wanted)


def logits_of(
    model: nn.Module, lesson: Lesson, weights: Mapping[str, torch.Tensor] | None = None
) -> torch.Tensor:
    """Logits `[number wanted, vocabulary]`; `weights` stand for the model's own of these names.

    Beginnings that rows share are computed once (`models.packed`): an edit of this pass sees tokens side by
    side, `[tokens, width]`, and has to be the same for all of them.
    """
    reading = _Reading(bare(model))
    if not weights:
        return reading(lesson.ids, lesson.wanted)
    given = {f"core.{name}": tensor for name, tensor in weights.items()}
    return torch.func.functional_call(reading, given, (lesson.ids, lesson.wanted))


def losses(
    model: nn.Module, lesson: Lesson, weights: Mapping[str, torch.Tensor] | None = None
) -> torch.Tensor:
    """Cross-entropy of each row's answer, mean over its tokens, in nats, `[n]`."""
    found = F.cross_entropy(
        logits_of(model, lesson, weights).float(), lesson.targets, reduction="none"
    )
    total = torch.zeros(len(lesson), device=found.device).index_add(0, lesson.rows, found)
    return total / lesson.wanted.sum(1).clamp(min=1)


@contextmanager
def fitting_beside(model: nn.Module) -> Iterator[None]:
    """Inside, gradients are on, none reaches the model's own weights, and nothing is dropped out.

    The parameters' `requires_grad` is as before afterwards, also after an error.
    """
    asked = [(value, value.requires_grad) for value in model.parameters()]
    try:
        for value, _ in asked:
            value.requires_grad_(False)
        with evaluating(model), torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for value, was in asked:
            value.requires_grad_(was)


def batches(lesson: Lesson, steps: int, rng: np.random.Generator, size: int):
    """`steps` batches of at most `size` rows: the lesson in a new random order again and again."""
    done = 0
    while done < steps:
        order = torch.from_numpy(rng.permutation(len(lesson))).to(lesson.ids.device)
        for rows in order.split(size):
            if done == steps:
                return
            done += 1
            yield rows


def room_for_copies(n: int) -> Callable[[Material], str]:
    """Why n candidates with weights of their own are too many for this model, in a sentence ("": no)."""

    def lacks(material: Material) -> str:
        own = sum(value.numel() for value in bare(material.steering.model).parameters())
        if 4 * n * own <= MEMORY:
            return ""
        return f"its {n} candidates would hold {4 * n * own / 2**30:.0f} GB of this model's weights"

    return lacks


def checkpoints(steps: int, n: int) -> list[int]:
    """At most n numbers of steps, doubling up to `steps`: after these a fit is a candidate."""
    found = {max(1, round(steps / 2**back)) for back in range(n)}
    return sorted(found)[-n:]
