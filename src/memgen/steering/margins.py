"""The margin: log p(first token of the rule's answer) - log p(that of the memory's answer).

Read at the decision position; positive leans to the rule. Prompts whose two answers begin with the
same token have none and are left out wherever it is used.
"""

from __future__ import annotations

import numpy as np
import torch

from memgen.models.generate import first_token_log_probabilities
from memgen.models.hooks import shift
from memgen.phases import phase
from memgen.steering.prompts import Prompts
from memgen.steering.steering import Steering

ROWS = 512  # rows (cell x prompt) in one forward pass


@phase("sweep")
@torch.inference_mode()
def margins(steering: Steering, shifts: np.ndarray, prompts: Prompts | None) -> np.ndarray:
    """Every prompt's margin under each (signed) shift `[cells, L, d]`: float64 `[cells, P]`."""
    if prompts is None:
        return np.empty((len(shifts), 0))
    n, deltas = len(prompts), steering.tensor(shifts)
    memory, rule = prompts.candidates[:, 0, :1].cpu(), prompts.candidates[:, 1, :1].cpu()
    found = torch.empty(len(deltas) * n, dtype=torch.float64)
    for rows in torch.arange(len(found)).split(ROWS):
        cell, prompt = rows // n, rows % n
        with shift(steering.model, steering.site, deltas[cell], steering.positions):
            log = first_token_log_probabilities(
                steering.model, prompts.input_ids[prompt], prompts.attention_mask[prompt]
            )
        found[rows] = (log.gather(1, rule[prompt]) - log.gather(1, memory[prompt]))[:, 0].double()
    return found.reshape(len(deltas), n).numpy()
