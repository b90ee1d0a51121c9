"""LiReF: what a hidden state has along one direction is scaled, everywhere.

u is the unit vector of one layer's mean difference (rule less memory). At every layer's input, attention
output and feed-forward output, at all positions, x becomes x + s (x . u) u. It multiplies what is there and
centres nothing: s = -1 deletes the direction, and a layer applies it three times. Source: Hong et al. (2025),
The Reasoning-Memorization Interplay in Language Models; their code's default is s = 0.1.
"""

from __future__ import annotations

import numpy as np
import torch

from memgen.models.components import Edit, Place
from memgen.rivals.interventions import Edits
from memgen.rivals.material import Material
from memgen.rivals.method import Candidate, Method, layers_tried
from memgen.steering.editing import Reach

PLACES = ("block_in", "attn_out", "mlp_out")
N_LAYERS = 4
#: both signs in both directions: a state may hold the direction with either sign
SCALES = (-0.1, 0.1, -0.25, 0.25, -0.5, 0.5, -1.0, 1.0, -2.0, 2.0, -3.0, 4.0)


def scaled(x: torch.Tensor, unit: torch.Tensor, s: float) -> torch.Tensor:
    """x + s (x . u) u, `[..., d]`; `unit` `[d]` has length 1."""
    return x + s * (x @ unit)[..., None] * unit


def direction(memory: np.ndarray, rule: np.ndarray, layer: int) -> np.ndarray:
    """Unit mean difference of one layer, `[d]`; states `[n, L, d]`. Zero where nothing differs."""
    found = (rule[:, layer] - memory[:, layer]).mean(axis=0, dtype=np.float64)
    length = np.linalg.norm(found)
    return found / length if length else found


def candidates(material: Material, direction_name: str) -> list[Candidate]:
    """One layer's direction at one strength, everywhere."""
    n_layer = material.memory.shape[1]
    found = []
    for s in SCALES:
        for layer in layers_tried(n_layer, N_LAYERS):
            unit = direction(material.memory, material.rule, layer)
            found.append(
                Candidate(
                    label=f"direction of layer {layer + 1}, s = {s:g}",
                    setting={"layer": layer + 1, "s": s, "positions": "all"},
                    strength=abs(s),
                    intervention=Edits(_everywhere(unit, s, n_layer), Reach(None, generated=True)),
                )
            )
    return found


def _everywhere(unit: np.ndarray, s: float, n_layer: int) -> dict[Place, Edit]:
    values = torch.from_numpy(unit)

    def edit(x: torch.Tensor) -> torch.Tensor:
        return scaled(x, values.to(x), s)

    return {(place, layer): edit for place in PLACES for layer in range(n_layer)}


METHOD = Method(
    name="liref",
    title="LiReF scaling",
    source="hong2025liref",
    read_in="code",
    kind="steering",
    directions=("m2g", "g2m"),
    candidates=candidates,
)
