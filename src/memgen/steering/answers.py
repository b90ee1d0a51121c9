"""What a steered model writes, token by token, also where only a part of the answer is steered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from memgen.models.endings import agree
from memgen.steering.margins import sweep_over
from memgen.steering.prompts import Prompts
from memgen.steering.steering import Steering
from memgen.terms import MEMORY_CODE, OTHER_CODE, RULE_CODE

PHASES = {
    "throughout": (True, True),
    "until_first_token": (True, False),
    "after_first_token": (False, True),
}  # steer the first token, the later ones


def written(
    steering: Steering, shifts: np.ndarray, prompts: Prompts, phase: str = "throughout"
) -> np.ndarray:
    """The answers' tokens under each (signed) shift `[cells, L, d]`: `[cells, P, A]`.

    They are laid out as `Prompts.candidates`. `phase` (see `PHASES`): where only a part of the
    answer is steered, the text so far is read again from the start, so that nothing but it is
    carried over.
    """
    first, later = PHASES[phase]
    n, length = len(prompts), steering.task.max_answer_tokens
    every = torch.arange(len(shifts) * n)
    cell, prompt = every // n, every % n
    if first == later or length == 1:
        sweep = sweep_over(steering, shifts if first else 0 * shifts, prompts, length)
        tokens = sweep.written(cell, prompt)
    else:
        begun = sweep_over(steering, shifts if first else 0 * shifts, prompts, 1)
        token = begun.written(cell, prompt)
        rest = sweep_over(
            steering, shifts if later else 0 * shifts, _with(prompts[prompt], token), length - 1
        )
        tokens = torch.cat([token, rest.written(cell, every)], dim=1)
    found = tokens.reshape(len(shifts), n, length).numpy()
    is_end = found == steering.tokenizer.eos_token_id
    return np.where(is_end.cumsum(-1) - is_end > 0, -1, found)


def _with(prompts: Prompts, token: torch.Tensor) -> Prompts:
    """The prompts with one more token `[P, 1]` each."""
    return replace(
        prompts,
        input_ids=torch.cat([prompts.input_ids, token.to(prompts.input_ids.device)], dim=1),
        attention_mask=torch.nn.functional.pad(prompts.attention_mask, (0, 1), value=1),
    )


def behaviors_of(
    tokens: np.ndarray,
    candidates: np.ndarray,
    end: int | None = None,
    ends: torch.Tensor | None = None,
) -> np.ndarray:
    """Codes `[..., P]`: the candidate `[P, 2, A]` that answers `[..., P, A]` equal (and end).

    `end`, `ends`: the end mark, and what ends an answer beside it (`models.endings`).
    """
    length = max(tokens.shape[-1], candidates.shape[-1])
    tokens, candidates = (
        np.pad(
            array, [(0, 0)] * (array.ndim - 1) + [(0, length - array.shape[-1])], constant_values=-1
        )
        for array in (tokens, candidates)
    )
    if ends is None:
        memory, rule = ((tokens == candidates[:, side]).all(-1) for side in (0, 1))
    else:
        written, wanted = torch.from_numpy(tokens), torch.from_numpy(candidates)
        memory, rule = (
            agree(wanted[:, side], written, end, ends).all(-1).numpy() for side in (0, 1)
        )
    return np.select([memory, rule], [MEMORY_CODE, RULE_CODE], OTHER_CODE)


def beginnings(tokens: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """How answers `[..., P, A]` relate to the two candidates `[P, 2, A]`, int `[..., P]`.

    2: they begin as one and go on with a token of the other (mixed); 1: as one, without; 0: as
    neither. A token is of the other answer if it stands there at the same place and not in the
    first one. Places count from the end, so a mark in front of one answer shifts nothing.
    """
    length = tokens.shape[-1]
    sizes = (candidates >= 0).sum(-1)  # [P, 2], with the end token
    starts, mixed = np.zeros(tokens.shape[:-1], dtype=bool), np.zeros(tokens.shape[:-1], dtype=bool)
    padded = np.pad(
        candidates, ((0, 0), (0, 0), (0, max(0, length - candidates.shape[-1]))), constant_values=-1
    )[..., :length]
    for one, other in ((0, 1), (1, 0)):
        place = (
            np.arange(length) - (sizes[:, one] - sizes[:, other])[:, None]
        )  # [P, A] in the other answer
        expected = np.take_along_axis(
            candidates[:, other], place.clip(0, candidates.shape[-1] - 1), axis=1
        )
        expected = np.where(
            (place >= 0) & (place < sizes[:, other, None] - 1) & (np.arange(length) > 0),
            expected,
            -2,
        )
        begins = tokens[..., 0] == candidates[:, one, 0]
        starts |= begins
        mixed |= begins & ((tokens == expected) & (tokens != padded[:, one])).any(-1)
    return starts.astype(int) + (starts & mixed)
