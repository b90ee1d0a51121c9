"""LiReF: what a hidden state has along one direction is scaled, everywhere.

u is the unit vector of one layer's mean difference (rule less memory). At every layer's input,
attention output and feed-forward output, at all positions, x becomes x + s (x . u) u. It multiplies
what is there and centres nothing: s = -1 deletes the direction, and a layer applies it three times.
Source: Hong et al. (2025), The Reasoning-Memorization Interplay in Language Models; their code's
default is s = 0.1, for layers from the fourth on, chosen on the questions that it reports. Here every
layer may be chosen, on validation keys.
"""

from __future__ import annotations

import numpy as np
import torch

from memgen.models.components import Edit, Place
from memgen.rivals.depths import layers_tried
from memgen.rivals.interventions import Edits
from memgen.rivals.material import Material
from memgen.rivals.method import Candidate, Method, thinned
from memgen.steering.editing import Reach

PLACES = ("block_in", "attn_out", "mlp_out")
#: both signs in both directions: a state may hold the direction with either sign
SCALES = (-0.1, 0.1, -0.25, 0.25, -0.5, 0.5, -1.0, 1.0, -2.0, 2.0, -3.0, 4.0)


def scaled(x: torch.Tensor, unit: torch.Tensor, s: float) -> torch.Tensor:
    """x + s (x . u) u, `[..., d]`; `unit` `[d]` has length 1."""
    return x + s * (x @ unit)[..., None] * unit


def mean_direction(memory: np.ndarray, rule: np.ndarray) -> np.ndarray:
    """Unit mean difference `[d]` of states `[n, d]`; zero where nothing differs."""
    found = rule.mean(axis=0, dtype=np.float64) - memory.mean(axis=0, dtype=np.float64)
    length = float(np.linalg.norm(found))
    return found / length if length else found


def candidates(material: Material, direction: str) -> list[Candidate]:
    """One layer's direction at one strength, everywhere; the same for both directions of steering."""
    found = []
    for layer in layers_tried(material.n_layer):
        unit = mean_direction(material.memory[:, layer], material.rule[:, layer])
        for s in SCALES:
            found.append(
                Candidate(
                    f"direction of layer {layer + 1}, s = {s:g}",
                    {"layer": layer + 1, "s": s, "positions": "all"},
                    abs(s),
                    Edits(at_every_place(unit, s, material.n_layer), Reach(None, generated=True)),
                )
            )
    return thinned(found, material.effort.budget)


def at_every_place(unit: np.ndarray, s: float, n_layer: int) -> dict[Place, Edit]:
    """The edits that scale along `unit` `[d]` wherever the residual stream is read or written."""
    values = torch.from_numpy(unit)

    def edit(x: torch.Tensor) -> torch.Tensor:
        return scaled(x, values.to(x), s)

    return {(place, layer): edit for place in PLACES for layer in range(n_layer)}


METHOD = Method("liref", "LiReF scaling", "hong2025liref", "code", "steering", candidates)
