"""A constant vector fitted by gradient on train keys, alone and held to what should stay.

The vector of lab 06's rival of the same name (`memgen.steering.optimised`): with it the answer that is
steered to becomes likely, with retention while free and keyed prompts of train keys keep what the untouched
model says to them. Layers and steps are candidates. Source of the idea: Dunefsky and Cohan (2025), arXiv
2502.18862.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from memgen.rivals.interventions import Shift
from memgen.rivals.material import Material
from memgen.rivals.method import Candidate, Method
from memgen.steering.optimised import Forced, Recipe, fitted, layer_sets
from memgen.terms import MEMORY_CODE, RULE_CODE, TARGET

CHECKPOINTS = 8  # of one fit, at most


def _candidates(retained: bool) -> Callable[[Material, str], list[Candidate]]:
    def candidates(material: Material, direction: str) -> list[Candidate]:
        """Layers that are moved together, and steps."""
        steering, effort = material.steering.once, material.effort  # prompts that nobody asks again
        turn = Forced.of(steering, material.starting(direction), TARGET[direction], trimmed=True)
        held = ((material.free, RULE_CODE), (material.keyed, MEMORY_CODE)) if retained else ()
        stay = [Forced.of(steering, rows, code, trimmed=True) for rows, code in held]
        sets = layer_sets(material.n_layer)
        checkpoints = max(1, min(CHECKPOINTS, effort.budget // len(sets), effort.steps))
        recipe = Recipe(effort.steps, effort.batch, checkpoints, seed=material.seed)
        return [
            _candidate(material, layers, steps, vector)
            for layers in sets
            for steps, vector in fitted(layers, turn, stay, recipe)
        ]

    return candidates


def _candidate(material: Material, layers: list[int], steps: int, vector: np.ndarray) -> Candidate:
    where = f"layer {layers[0] + 1}" if len(layers) == 1 else f"{len(layers)} layers"
    positions, site = material.steering.positions, material.steering.site
    return Candidate(
        f"{where}, {steps} steps, {positions}",
        {"layers": where, "steps": steps, "positions": positions},
        float(np.linalg.norm(vector)),
        Shift(vector, positions, site),
        gradient_steps=steps,
    )


OPTIMISED = Method(
    "optimised",
    "Optimised vector",
    "dunefsky2025oneshot",
    "paper",
    "steering",
    _candidates(False),
    shifts=True,
)
OPTIMISED_RETAINED = Method(
    "optimised_retained",
    "Optimised vector, held",
    "dunefsky2025oneshot",
    "ours",
    "steering",
    _candidates(True),
    shifts=True,
)
