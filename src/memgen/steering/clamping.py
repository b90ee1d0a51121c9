"""What a clamp, or a shift added in its place, does to answers, and how far it moves the states.

Both move the last token of the prompt and, where they hold on, the tokens of the answer; earlier
tokens are left alone, so all of a prompt's moves share its unsteered pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from memgen.models.components import Edit, Place
from memgen.models.generate import tokenize_prompts
from memgen.models.hooks import capture, check_delta
from memgen.models.sites import bare, site_modules
from memgen.steering.editing import Reach, Writer
from memgen.steering.steering import Steering


@dataclass(frozen=True)
class Moves:
    """M moves of a state h: h <- h + pull * (mean - h) + step.

    `pull`, `step`: `[M, L, d]`; `mean`: `[L, d]`. A layer that no move touches is not edited. Errors:
    `ValueError` for what is not finite or does not fit the model, when it is used.
    """

    mean: np.ndarray
    pull: np.ndarray
    step: np.ndarray

    @classmethod
    def clamps(cls, mean: np.ndarray, mask: np.ndarray, strengths: Sequence[float]) -> Moves:
        """Towards `mean` on the neurons of `mask`, both `[L, d]`; by this share of the way each."""
        share = np.asarray(strengths, dtype=np.float64)[:, None, None]
        pull = share * np.asarray(mask, dtype=np.float64)
        return cls(np.asarray(mean), pull, np.zeros_like(pull))

    def and_add(self, delta: np.ndarray) -> Moves:
        """One move more: `delta` `[L, d]` added, nothing pulled."""
        nothing = np.zeros((1, *self.pull.shape[1:]))
        pull = np.concatenate([self.pull, nothing])
        return Moves(self.mean, pull, np.concatenate([self.step, nothing + delta]))

    def __len__(self) -> int:
        return len(self.pull)

    def edits(
        self, steering: Steering, which: torch.Tensor, made: list[torch.Tensor] | None = None
    ) -> Mapping[Place, Edit]:
        """Edits of rows, each under the move `which[row]`; what they add is put into `made`."""
        core = bare(steering.model)

        def placed(values: np.ndarray) -> torch.Tensor:
            tensor = torch.as_tensor(values)
            check_delta(tensor, len(site_modules(core, steering.site)), core.config.hidden_size)
            return tensor.to(device=core.device, dtype=core.dtype)

        rows = which.to(core.device)
        mean, pull, step = placed(self.mean), placed(self.pull)[rows], placed(self.step)[rows]

        def moving(layer: int) -> Edit:
            def edit(vector: torch.Tensor) -> torch.Tensor:
                move = pull[:, layer, None] * (mean[layer] - vector) + step[:, layer, None]
                if made is not None:
                    made.append(move[:, -1])
                return vector + move

            return edit

        touched = np.flatnonzero((self.pull.any(axis=(0, 2))) | self.step.any(axis=(0, 2)))
        return {(steering.site, layer): moving(layer) for layer in touched.tolist()}


def answered(
    steering: Steering, rows: pd.DataFrame, moves: Moves, generated: bool = True
) -> np.ndarray:
    """Codes `[M, prompts]`; `generated`: do the moves hold at the tokens of the answer, too?"""
    return Writer.of(steering).cells(
        steering.prompts(rows),
        len(moves),
        lambda which: moves.edits(steering, which),
        Reach(back=1, generated=generated),
    )


def moved(steering: Steering, rows: pd.DataFrame, moves: Moves) -> list[float]:
    """By how much each move moves prompts: mean L2 norm over all layers of their last token's moves."""
    writer = Writer.of(steering)
    # one token is written: the prompts are read, no more
    first = replace(writer, length=1)
    lengths: list[np.ndarray] = []
    made: list[torch.Tensor] = []

    def edits_of(which: torch.Tensor) -> Mapping[Place, Edit]:
        lengths.append(_lengths(made))
        made.clear()
        return moves.edits(steering, which, made)

    first.cells(steering.prompts(rows), len(moves), edits_of, Reach(back=1))
    lengths.append(_lengths(made))
    every = np.concatenate(lengths)
    if not len(every):
        return [0.0] * len(moves)
    return every.reshape(len(moves), len(rows)).mean(axis=1).tolist()


def _lengths(made: list[torch.Tensor]) -> np.ndarray:
    """L2 norms `[rows]` of moves `[rows, d]`, an item a layer."""
    if not made:
        return np.zeros(0)
    squares = [one.float().square().sum(-1) for one in made]
    # numpy's root is exact everywhere; torch takes MKL's, which is not
    return np.sqrt(torch.stack(squares).sum(0).cpu().numpy())


def distance(steering: Steering, rows: pd.DataFrame, mean: np.ndarray, mask: np.ndarray) -> float:
    """What a full clamp moves by: mean L2 norm of (mean - h) on `mask`, unsteered."""
    states = capture(
        steering.model, *tokenize_prompts(steering.tokenizer, list(rows.prompt)), site=steering.site
    ).numpy()
    return float(np.linalg.norm(np.where(mask, mean - states, 0), axis=(1, 2)).mean())
