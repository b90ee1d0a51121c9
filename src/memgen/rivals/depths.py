"""Which layers a method tries: all of a small model, a few evenly spread ones of a deep one."""

from __future__ import annotations

import numpy as np

MOST = 4  # the depth of the study's own models


def layers_tried(n_layer: int, most: int = MOST) -> list[int]:
    """At most `most` layers from 0, evenly spread, the last one among them."""
    if n_layer <= most:
        return list(range(n_layer))
    return sorted({int(i) for i in np.linspace(0, n_layer, most + 1).round()[1:] - 1})


def layer_sets(n_layer: int, most: int = MOST) -> dict[str, list[int]]:
    """By name the layers that an edit of weights is made in: each alone, the last two, all of them."""
    found = {f"layer {layer + 1}": [layer] for layer in layers_tried(n_layer, most)}
    if n_layer > 2:
        found["the last two layers"] = [n_layer - 2, n_layer - 1]
    if n_layer > 1:
        found["all layers"] = list(range(n_layer))
    return found
