"""What a model writes while the pass over its prompt is edited, and which answer it leans to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from transformers import DynamicCache

from memgen.models.checkpoint import check_room
from memgen.models.components import Edit, Place, edited
from memgen.models.hooks import evaluating, position_ids
from memgen.models.sites import bare
from memgen.phases import phase
from memgen.steering.answers import behaviors_of
from memgen.steering.prompts import Prompts
from memgen.steering.steering import Steering

ROWS = 512  # prompts in one batch
#: which edits the rows of a batch get, by their indices `[rows]`
EditsOf = Callable[[torch.Tensor], Mapping[Place, Edit]]


@dataclass(frozen=True)
class Written:
    """What was written to P prompts.

    `tokens` `[P, A]`: as `Prompts.candidates`, -1 after the end. `margin` `[P]`: logit of the first
    token of the rule's answer less that of the memory's, 0 where both begin with the same token.
    """

    tokens: np.ndarray
    margin: np.ndarray

    def codes(self, prompts: Prompts) -> np.ndarray:
        """The behaviours `[P]`."""
        return behaviors_of(self.tokens, prompts.candidates.cpu().numpy())


@dataclass(frozen=True)
class Writer:
    """A model that answers greedily, at most `length` tokens with the end token among them."""

    model: nn.Module
    length: int
    end: int

    @classmethod
    def of(cls, steering: Steering) -> Writer:
        return cls(steering.model, steering.task.max_answer_tokens, steering.tokenizer.eos_token_id)

    @phase("sweep")
    @torch.inference_mode()
    def write(
        self,
        prompts: Prompts,
        edits_of: EditsOf = lambda rows: {},
        generated: bool = False,
        rows: int = ROWS,
    ) -> Written:
        """Answers under the edits, which hold in the pass over the prompt only.

        The answer is decoded from the cache that this pass left; with `generated` the edits hold in
        the passes over the answer's tokens as well.
        """
        check_room(self.model, prompts.attention_mask, self.length)
        found = []
        with evaluating(self.model):
            for some in torch.arange(len(prompts)).split(rows):
                found.append(self._batch(prompts[some], edits_of(some), generated))
        tokens, margin = zip(*found, strict=True)
        return Written(torch.cat(tokens).cpu().numpy(), torch.cat(margin).cpu().numpy())

    def cells(
        self, prompts: Prompts, n_cells: int, edits_of: EditsOf, generated: bool = False
    ) -> np.ndarray:
        """Behaviours `[cells, P]`; `edits_of` gets the cells `[rows]` of a batch's rows."""
        n = len(prompts)
        rows = torch.arange(n_cells * n)
        cell, every = rows // n, prompts[rows % n]
        found = self.write(every, lambda some: edits_of(cell[some]), generated)
        return found.codes(every).reshape(n_cells, n)

    def _batch(
        self, prompts: Prompts, edits: Mapping[Place, Edit], generated: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        core, cache = bare(self.model), DynamicCache()
        ids, mask = prompts.input_ids.to(core.device), prompts.attention_mask.to(core.device)
        positions = position_ids(mask)
        tokens = torch.full((len(ids), self.length), -1)
        ended = torch.zeros(len(ids), dtype=torch.bool, device=core.device)
        margin = torch.zeros(len(ids), dtype=torch.float64)
        for step in range(self.length):
            with edited(self.model, edits) if generated or step == 0 else nullcontext():
                logits = core(
                    input_ids=ids,
                    attention_mask=mask,
                    position_ids=positions,
                    past_key_values=cache,
                    use_cache=True,
                    logits_to_keep=1,
                ).logits[:, -1]
            if step == 0:
                margin = _margin(logits, prompts)
            chosen = logits.argmax(-1)
            tokens[:, step] = chosen.masked_fill(ended, -1).cpu()
            ended = ended | (chosen == self.end)
            if ended.all():
                break
            ids, mask = chosen[:, None], torch.nn.functional.pad(mask, (0, 1), value=1)
            positions = mask.sum(-1, keepdim=True) - 1
        return tokens, margin


def _margin(logits: torch.Tensor, prompts: Prompts) -> torch.Tensor:
    first = prompts.candidates[:, :, 0].to(logits.device)
    memory, rule = logits.double().gather(1, first).unbind(1)
    return (rule - memory).cpu()
