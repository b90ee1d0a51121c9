"""Contrastive activation addition: the mean difference of a layer's states, added.

Source: Panickssery et al. (2024), arXiv 2312.06681, and its code, github.com/nrimsky/CAA:
`generate_vectors.py` takes `(positive - negative).mean(0)` of each layer's output, `llama_wrapper.py` adds
`multiplier * vector` to the output of one block. There both prompts of a pair end with the letter of an
answer and are read at that letter; here no answer is written yet, so they are read at the decision position.

The stored commits of its wrapper add the vector twice: `add_vector_after_position` adds it behind the
instruction, and the line after it to all positions once more. Here it is added once.
"""

from __future__ import annotations

import numpy as np

from memgen.rivals.depths import layers_tried
from memgen.rivals.material import Material
from memgen.rivals.method import Candidate, Method
from memgen.rivals.vectors import all_layers, layer_by_layer
from memgen.terms import SIGN

MULTIPLIERS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
ALL_MULTIPLIERS = tuple(float(x) for x in np.geomspace(0.1, 16, 25).round(3))


def mean_difference(rule: np.ndarray, memory: np.ndarray) -> np.ndarray:
    """The vectors of all layers `[L, d]`, of pairs' states `[n, L, d]`."""
    difference: np.ndarray = rule.astype(np.float64) - memory
    return difference.mean(axis=0)


def one_layer(material: Material, direction: str) -> list[Candidate]:
    """Layer and multiplier."""
    vectors = SIGN[direction] * mean_difference(material.rule, material.memory)
    layers = layers_tried(material.n_layer)
    return layer_by_layer(vectors, layers, MULTIPLIERS, material.positions)


def every_layer(material: Material, direction: str) -> list[Candidate]:
    """All layers at once, as the paper's neurons would be with none left out."""
    vectors = SIGN[direction] * mean_difference(material.rule, material.memory)
    return all_layers(vectors, ALL_MULTIPLIERS, material.positions)


CAA = Method(
    "caa", "CAA, one layer", "panickssery2024caa", "code", "steering", one_layer, shifts=True
)
CAA_ALL = Method(
    "caa_all",
    "CAA, all layers",
    "panickssery2024caa",
    "code",
    "steering",
    every_layer,
    shifts=True,
)
