"""What a model writes while the pass over its prompt is edited, and which answer it leans to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from memgen.models.checkpoint import check_room
from memgen.models.components import Edit, Place, edited
from memgen.models.hooks import evaluating
from memgen.models.sites import bare
from memgen.phases import phase
from memgen.steering.answers import behaviors_of
from memgen.steering.kept import Tables
from memgen.steering.passes import Asked, Batch, decoded
from memgen.steering.prompts import Prompts
from memgen.steering.steering import Steering
from memgen.steering.unsteered import ROWS, Unsteered

#: which edits the rows of a batch get, by their indices `[rows]`
EditsOf = Callable[[torch.Tensor], Mapping[Place, Edit]]


@dataclass(frozen=True)
class Reach:
    """How far edits reach: over the last `back` tokens of the prompt (None: all), and beyond it.

    An edit gets the vectors of these tokens only, or of the last one where no other is read.
    `generated`: it holds in the passes over the answer's tokens as well.
    """

    back: int | None = None
    generated: bool = False


@dataclass(frozen=True)
class Written:
    """What was written to P prompts.

    `tokens` `[P, A]`: as `Prompts.candidates`, -1 after the end; -2 from where an answer fits none
    of those that were asked about. `margin` `[P]`: logit of the first token of the rule's answer
    less that of the memory's, 0 where both begin with the same token. `end`, `ends`: the writer's.
    """

    tokens: np.ndarray
    margin: np.ndarray
    end: int
    ends: torch.Tensor | None = None

    def __getitem__(self, index: slice) -> Written:
        return replace(self, tokens=self.tokens[index], margin=self.margin[index])

    def codes(self, prompts: Prompts) -> np.ndarray:
        """The behaviours `[P]`."""
        candidates = prompts.candidates.cpu().numpy()
        return behaviors_of(self.tokens, candidates, self.end, self.ends)


@dataclass(frozen=True)
class Writer:
    """A model that answers greedily, at most `length` tokens with the end token among them.

    `ends`: what ends an answer beside it (`models.endings`).
    """

    model: nn.Module
    length: int
    end: int
    ends: torch.Tensor | None = None

    @classmethod
    def of(cls, steering: Steering) -> Writer:
        return cls(steering.model, steering.task.max_answer_tokens, *steering.marks)

    @phase("sweep")
    @torch.inference_mode()
    def unsteered(self, prompts: Prompts) -> Unsteered:
        """What the rows of `rows` share: the pass over their prompts."""
        check_room(self.model, prompts.attention_mask, self.length)
        with evaluating(self.model):
            return Unsteered.of(self.model, prompts)

    def write(
        self, prompts: Prompts, edits_of: EditsOf = lambda rows: {}, reach: Reach = Reach()
    ) -> Written:
        """Whole answers, each prompt under its own edits."""
        nothing = prompts.candidates[:, :0]
        return self.rows(
            self.unsteered(prompts), torch.arange(len(prompts)), edits_of, reach, nothing
        )

    @phase("sweep")
    @torch.inference_mode()
    def read(
        self, prompts: Prompts, edits_of: EditsOf, reach: Reach, tables: Tables | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Which candidates the answers are, `[P, 2]`, and the first token's log-probabilities `[P, V]`.

        `tables`: where the pass over these prompts may be kept; of a model with its own weights alone.
        """
        # as a sweep over all positions keeps it
        shared = (
            self.unsteered(prompts)
            if tables is None
            else tables.pick(prompts, (False, ROWS), lambda: self.unsteered(prompts))
        )
        parts = []
        with evaluating(self.model):
            for some in torch.arange(len(prompts)).split(ROWS):
                answers = prompts.candidates[some]
                one = self._batch((shared, some, some), edits_of, reach, answers)
                parts.append((one.fits.cpu(), one.logits.float().log_softmax(-1).cpu()))
        fits, log_probs = (torch.cat(of) for of in zip(*parts, strict=True))
        return fits, log_probs

    @phase("sweep")
    @torch.inference_mode()
    def rows(
        self,
        shared: Unsteered,
        prompt: torch.Tensor,
        edits_of: EditsOf,
        reach: Reach,
        answers: torch.Tensor,
    ) -> Written:
        """Row r is prompt `prompt[r]`; it ends when it fits none of its `answers` `[rows, K, A]`.

        The answer is decoded from the cache that the pass over the prompt left. Without any answer
        (K = 0) all rows are followed to their ends.
        """
        found, margins = [], []
        with evaluating(self.model):
            for some in torch.arange(len(prompt)).split(ROWS):
                one = self._batch((shared, prompt, some), edits_of, reach, answers[some])
                found.append(one.tokens.cpu())
                margins.append(_margin(one.logits, shared.prompts.candidates[prompt[some]]))
        tokens, margin = torch.cat(found).numpy(), torch.cat(margins).numpy()
        return Written(tokens, margin, self.end, self.ends)

    def cells(
        self, prompts: Prompts, n_cells: int, edits_of: EditsOf, reach: Reach = Reach()
    ) -> np.ndarray:
        """Behaviours `[cells, P]`; `edits_of` gets the cells `[rows]` of a batch's rows."""
        n = len(prompts)
        rows = torch.arange(n_cells * n)
        cell, prompt = rows // n, rows % n
        every = prompts[prompt]
        found = self.rows(
            self.unsteered(prompts),
            prompt,
            lambda some: edits_of(cell[some]),
            reach,
            every.candidates,
        )
        return found.codes(every).reshape(n_cells, n)

    def _batch(
        self,
        rows: tuple[Unsteered, torch.Tensor, torch.Tensor],
        edits_of: EditsOf,
        reach: Reach,
        answers: torch.Tensor,
    ):
        shared, prompt, some = rows
        device, edits = bare(self.model).device, edits_of(some)
        lowest = [layer + (component == "resid_post") for component, layer in edits]
        skip = min(lowest, default=len(shared.outputs))

        def steered(live: torch.Tensor, step: int):
            if step == 0:
                return edited(self.model, edits)
            return (
                edited(self.model, edits_of(some[live.cpu()])) if reach.generated else nullcontext()
            )

        batch = Batch(shared, prompt[some].to(device), skip, reach.back)
        return decoded(batch, steered, Asked(answers.to(device), self.length, self.end, self.ends))


def _margin(logits: torch.Tensor, candidates: torch.Tensor) -> torch.Tensor:
    first = candidates[:, :, 0].to(logits.device)
    memory, rule = logits.double().gather(1, first).unbind(1)
    return (rule - memory).cpu()
