"""Steering the hidden units of the feed-forward parts, which much of the field calls neurons.

The recipe is that of the residual coordinates: alpha * sign(rho) * |NMD| on the units with the
largest |rho|. A unit writes to the residual stream along one row of the last map, so shifts of
different units are compared by what they write.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from memgen.models.components import Edit, Place
from memgen.models.sites import bare


def adding(model: nn.Module, deltas: np.ndarray) -> dict[Place, Edit]:
    """Edits that add `deltas` `[rows, L, units]` at every position that they are given."""
    core = bare(model)
    steps = torch.as_tensor(np.asarray(deltas)).to(device=core.device, dtype=core.dtype)

    def shifting(layer: int) -> Edit:
        return lambda vector: vector + steps[:, layer, None]

    touched = steps.any(dim=2).any(dim=0).nonzero()[:, 0].tolist()
    return {("units", layer): shifting(layer) for layer in touched}


def written_by(delta: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """What a shift `[L, units]` writes to the residual stream, `[L, d]`; `maps`: `[L, units, d]`."""
    return np.einsum("lu,lud->ld", delta, maps)


def random_units(
    delta: np.ndarray, maps: np.ndarray, rng: np.random.Generator, cumulative: bool
) -> np.ndarray:
    """The shift's values dealt to as many random units of the same layer, `[L, units]`.

    Units outside the shift where the layer has enough of them. The draw is rescaled so that what it
    writes has the shift's norm: layer by layer, or (`cumulative`) the norm of the sum over layers,
    which is what the last layer sees.
    """
    found = np.zeros_like(delta)
    for layer, own in enumerate(delta):
        values = own[own != 0]
        outside = np.flatnonzero(own == 0)
        pool = outside if len(outside) >= len(values) else np.arange(len(own))
        found[layer, rng.choice(pool, len(values), replace=False)] = rng.permutation(values)
    ours, theirs = written_by(delta, maps), written_by(found, maps)
    if cumulative:
        ours, theirs = ours.sum(axis=0, keepdims=True), theirs.sum(axis=0, keepdims=True)
    norm = np.linalg.norm(theirs, axis=1, keepdims=True)
    scale = np.divide(
        np.linalg.norm(ours, axis=1, keepdims=True), norm, out=np.zeros_like(norm), where=norm > 0
    )
    return found * scale
