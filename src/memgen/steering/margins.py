"""The margin: log p(first token of the rule's answer) - log p(that of the memory's answer).

Read at the decision position; positive leans to the rule. Prompts whose two answers begin with the
same token have none and are left out wherever it is used.
"""

from __future__ import annotations

import numpy as np
import torch

from memgen.models.room import fitting
from memgen.steering.engine import Decoding, Sweep
from memgen.steering.prompts import Prompts
from memgen.steering.steering import Steering
from memgen.steering.unsteered import ROWS


def margins(steering: Steering, shifts: np.ndarray, prompts: Prompts | None) -> np.ndarray:
    """Every prompt's margin under each (signed) shift `[cells, L, d]`: float64 `[cells, P]`."""
    if prompts is None:
        return np.empty((len(shifts), 0))
    n, every = len(prompts), torch.arange(len(shifts) * len(prompts))
    sweep = sweep_over(steering, shifts, prompts, 1)
    return sweep.margins(every // n, every % n).reshape(-1, n).numpy()


def sweep_over(steering: Steering, shifts: np.ndarray, prompts: Prompts, length: int) -> Sweep:
    """(Signed) shifts `[cells, L, d]` on prompts; of an answer `length` tokens are written, at most."""
    rows = fitting(steering.model, prompts.input_ids.shape[1], ROWS)
    how = Decoding(
        steering.site,
        steering.positions,
        length,
        steering.tokenizer.eos_token_id,
        rows_per_batch=rows,
        kept=steering.kept,
    )
    return Sweep.of(steering.model, prompts, steering.tensor(shifts), how)
