"""Contrastive neuron attribution: a few hidden units of the feed-forward parts are multiplied.

Units are ranked by |mean difference| of their activation at the last token over all layers; the top
share is taken, less the units that are in the top share of more than 80 % of generic prompts. Their
activation is multiplied by m at every token: 0 ablates, above 1 amplifies. Source: Herring et al.
(2026), Targeted Neuron Modulation via Contrastive Pair Search; known from summaries, its code was not
found. Its share is 0.1 %, which is two units of a model of 2,048; here shares and sides are tried.
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

SHARES = (0.005, 0.02, 0.05, 0.1)
FACTORS = (0.5, 0.0, 2.0, 4.0)
SIDES = ("both", "memory", "rule")  # which side a unit may favour
UNIVERSAL = 0.8  # of the generic prompts


def contrast(memory: np.ndarray, rule: np.ndarray) -> np.ndarray:
    """Mean activation with the rule less that from memory, `[L, units]`; both `[n, L, units]`."""
    return rule.mean(axis=0, dtype=np.float64) - memory.mean(axis=0, dtype=np.float64)


def most(values: np.ndarray, share: float) -> np.ndarray:
    """Bool, of the same shape: the top share over all layers, at least one; the first of equals."""
    chosen = np.zeros(values.size, dtype=bool)
    chosen[np.argsort(-values, axis=None, kind="stable")[: max(1, round(share * values.size))]] = 1
    return chosen.reshape(values.shape)


def universal(generic: np.ndarray, share: float) -> np.ndarray:
    """Units `[L, units]` in the top share by |activation| of more than 80 % of prompts `[n, L, units]`."""
    often = np.mean([most(np.abs(one), share) for one in generic], axis=0)
    return often > UNIVERSAL


def chosen_units(
    difference: np.ndarray, generic: np.ndarray, share: float, side: str = "both"
) -> np.ndarray:
    """Bool `[L, units]`: the units that are multiplied; `side`: which behaviour they favour."""
    score = {"both": np.abs(difference), "memory": -difference, "rule": difference}[side]
    return most(score, share) & ~universal(generic, share)


def multiplied(chosen: np.ndarray, factor: float) -> dict[Place, Edit]:
    """Edits that multiply the chosen units `[L, units]`; none for a layer without any."""

    def edit(own: torch.Tensor) -> Edit:
        factors = torch.where(own, factor, 1.0)
        return lambda units: units * factors.to(units)

    return {
        ("units", layer): edit(torch.from_numpy(own))
        for layer, own in enumerate(chosen)
        if own.any()
    }


def units_at_the_end(material: Material, prompts) -> np.ndarray:
    """Activations at the last token, `[n, L, units]`."""
    model, tokenizer = material.steering.model, material.steering.tokenizer
    return read(model, *tokenize_prompts(tokenizer, list(prompts)), "units", last=True).numpy()


def candidates(material: Material, direction: str) -> list[Candidate]:
    """A share of the units of one side times a factor, everywhere; the same for both directions."""
    memory, rule = (
        units_at_the_end(material, material.pairs[f"{side}_prompt"]) for side in ("memory", "rule")
    )
    generic = units_at_the_end(material, material.free.prompt)
    difference, found = contrast(memory, rule), []
    for share in SHARES:
        for side in SIDES:
            chosen = chosen_units(difference, generic, share, side)
            about: dict[str, float | int | str] = {
                "share": share,
                "side": side,
                "units": int(chosen.sum()),
            }
            for factor in FACTORS:
                found.append(
                    Candidate(
                        f"{share:.1%} of the units ({side}) times {factor:g}",
                        about | {"factor": factor},
                        share * abs(factor - 1),
                        Edits(multiplied(chosen, factor), Reach(None, generated=True)),
                    )
                )
    return thinned(found, material.effort.budget)


METHOD = Method("cna", "CNA neuron scaling", "herring2026cna", "abstract", "steering", candidates)
