"""Necessity: what is lost when neurons are set to their mean, so that they tell nothing apart.

Adding a shift asks whether neurons are enough to change the behaviour. Setting them to the mean
over prompts of both behaviours asks whether the model needs them to show either.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from memgen.models.components import Edit, Place, read
from memgen.models.sites import bare
from memgen.steering.prompts import Prompts
from memgen.terms import Positions, Site


def mean_states(model: nn.Module, prompts: Prompts, site: Site) -> np.ndarray:
    """Mean hidden state at each position over the prompts that have it, `[L, positions, d]`.

    Positions count from the end: the last one is the decision position.
    """
    states = read(model, prompts.input_ids, prompts.attention_mask, site).double()
    there = prompts.attention_mask.cpu().bool()[:, None, :, None]
    return (states.masked_fill(~there, 0).sum(0) / there.sum(0).clamp(min=1)).numpy()


def ablating(
    model: nn.Module, site: Site, mean: np.ndarray, masks: np.ndarray, positions: Positions
) -> dict[Place, Edit]:
    """Edits that set neurons to `mean` `[L, positions, d]`; one mask of `masks` `[rows, L, d]` a row.

    `positions`: `decision` sets them at the last position of the pass, `all` at every one. A prompt
    longer than those that the mean is of gets the mean of the earliest position for the rest. A
    layer without neurons is not edited.
    """
    core = bare(model)
    chosen = torch.as_tensor(np.asarray(masks, dtype=bool)).to(core.device)
    values = torch.as_tensor(np.asarray(mean)).to(device=core.device, dtype=core.dtype)

    def setting(layer: int) -> Edit:
        def edit(vector: torch.Tensor) -> torch.Tensor:
            length, known = vector.shape[1], values.shape[1]
            back = torch.arange(length, 0, -1, device=core.device).clamp(max=known)
            target, own = values[layer, known - back], chosen[:, layer, None]
            if positions == "decision":
                own = own & (torch.arange(length, device=core.device) == length - 1)[:, None]
            return torch.where(own, target, vector)

        return edit

    layers = chosen.any(dim=2).any(dim=0).nonzero()[:, 0].tolist()
    return {(site, layer): setting(layer) for layer in layers}
