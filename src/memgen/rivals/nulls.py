"""What a method has to beat: the untouched model, and as many random directions as it has candidates."""

from __future__ import annotations

import numpy as np

from memgen.rivals.caa import MULTIPLIERS, mean_difference
from memgen.rivals.depths import layers_tried
from memgen.rivals.interventions import untouched
from memgen.rivals.material import Material
from memgen.rivals.method import Candidate, Method
from memgen.rivals.vectors import added, at_layer
from memgen.terms import DIRECTIONS


def nothing(material: Material, direction: str) -> list[Candidate]:
    """The one candidate that changes nothing."""
    return [Candidate("nothing", {}, 0.0, untouched(material.steering))]


def random_directions(material: Material, direction: str) -> list[Candidate]:
    """The grid of CAA, with another random direction of the same length in every cell.

    A control that is not chosen is too kind to whoever it is compared with: this one has the same layers,
    lengths and positions to choose from.
    """
    rng = material.rng(7, DIRECTIONS.index(direction))
    length = np.linalg.norm(mean_difference(material.rule, material.memory), axis=1)
    found = []
    for layer in layers_tried(material.n_layer):
        for times in MULTIPLIERS:
            for positions in material.positions:
                drawn = rng.normal(size=material.memory.shape[2])
                step = times * length[layer] * drawn / np.linalg.norm(drawn)
                setting = {"layer": layer + 1, "times": times}
                found.append(added(at_layer(step, layer, material.n_layer), setting, positions))
    return found


UNTOUCHED = Method("untouched", "Untouched", "", "ours", "null", nothing, shifts=True)
RANDOM_DIRECTIONS = Method(
    "random_directions",
    "Best of random directions",
    "",
    "ours",
    "null",
    random_directions,
    shifts=True,
)
