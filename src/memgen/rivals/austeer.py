"""AUSteer: at most a hundred single coordinates are scaled by how reliably they tell the behaviours apart.

A coordinate's momentum is the share of pairs in which it is larger on the wanted side (or smaller: then
with a minus sign), whichever is more. The k coordinates with the largest |momentum| over all layers are
scaled: x_i becomes x_i + alpha momentum_i x_i, at every position. Places: what attention's last map
reads, what the feed-forward part adds, or the block's output. Source: Feng et al. (2026), Fine-Grained
Activation Steering, with the static strengths of their code.
"""

from __future__ import annotations

import numpy as np
import torch

from memgen.models.components import Edit, Place, read
from memgen.models.generate import tokenize_prompts
from memgen.rivals.interventions import Edits
from memgen.rivals.material import Material
from memgen.rivals.method import Candidate, Method, thinned
from memgen.steering.editing import Reach

PLACES = {"attention": "heads", "ffn": "mlp_out", "layer": "resid_post"}
COUNTS = (10, 50, 100)
ALPHAS = (0.5, 1.0, 2.0, 4.0, 8.0)


def momentum(wanted: np.ndarray, unwanted: np.ndarray) -> np.ndarray:
    """Signed share of pairs in which a coordinate is larger (+) or smaller (-) on the wanted side.

    Both `[n, L, width]`; returns `[L, width]` in [-1, 1]. Where larger and smaller are equally frequent the
    sign is plus, as in the published code; a coordinate that never differs has 0.
    """
    gain = wanted - unwanted
    larger, smaller = (gain > 0).sum(axis=0), (gain < 0).sum(axis=0)
    share = np.maximum(larger, smaller) / len(gain)
    return np.where(larger < smaller, -share, share)


def strengths(momenta: np.ndarray, k: int, alpha: float) -> np.ndarray:
    """alpha times the momentum of the k most reliable coordinates, 0 elsewhere, `[L, width]`."""
    best = np.argsort(-np.abs(momenta), axis=None, kind="stable")[:k]
    found = np.zeros(momenta.size)
    found[best] = alpha * momenta.ravel()[best]
    return found.reshape(momenta.shape)


def scaled_by(component: str, strength: np.ndarray) -> dict[Place, Edit]:
    """Edits x + x * strength, `[L, width]`; none for a layer of zeros."""

    def edit(own: torch.Tensor) -> Edit:
        return lambda x: x + x * own.to(x)

    return {
        (component, layer): edit(torch.from_numpy(own))
        for layer, own in enumerate(strength)
        if own.any()
    }


def candidates(material: Material, direction: str) -> list[Candidate]:
    """k coordinates of one place at one strength."""
    model, tokenizer = material.steering.model, material.steering.tokenizer
    wanted, unwanted = ("rule", "memory") if direction == "m2g" else ("memory", "rule")
    found = []
    for place, component in PLACES.items():
        states = [
            read(
                model,
                *tokenize_prompts(tokenizer, list(material.pairs[f"{side}_prompt"])),
                component,
                last=True,
            ).numpy()
            for side in (wanted, unwanted)
        ]
        momenta = momentum(*states)
        for k in COUNTS:
            for alpha in ALPHAS:
                found.append(
                    Candidate(
                        f"{k} coordinates of {place}, alpha {alpha:g}",
                        {"place": place, "coordinates": k, "alpha": alpha, "positions": "all"},
                        alpha * k,
                        Edits(
                            scaled_by(component, strengths(momenta, k, alpha)),
                            Reach(None, generated=True),
                        ),
                    )
                )
    return thinned(found, material.effort.budget)


METHOD = Method("austeer", "AUSteer coordinates", "feng2026austeer", "code", "steering", candidates)
