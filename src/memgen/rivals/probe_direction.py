"""The weights of a linear probe as a direction to steer along.

Source: Li et al. (2023), arXiv 2306.03341, whose heads may be steered along the weights of their probes
in place of the mean difference; here it is the residual stream of one layer, and the strength is measured in
standard deviations of the states along the direction, as there.
"""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from memgen.rivals.depths import layers_tried
from memgen.rivals.material import Material
from memgen.rivals.method import Candidate, Method
from memgen.rivals.vectors import added, at_layer
from memgen.terms import SIGN

PENALTY = 0.1  # C of the L2 penalty
ALPHAS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


def probe_direction(rule: np.ndarray, memory: np.ndarray) -> tuple[np.ndarray, float]:
    """The unit vector `[d]` towards the rule, and the spread of the states along it.

    Of one layer's states `[n, d]` each. The probe sees every coordinate at unit variance; its weights are
    divided by what the coordinates were divided by, so that they tell directions of the states as they are.
    """
    states = np.concatenate([memory, rule]).astype(np.float64)
    scaler = StandardScaler().fit(states)
    probe = LogisticRegression(C=PENALTY, max_iter=1000)
    probe.fit(scaler.transform(states), np.repeat([0, 1], [len(memory), len(rule)]))
    weight = probe.coef_[0] / scaler.scale_
    length = np.linalg.norm(weight)
    unit = weight / length if length > 0 else weight
    return unit, float((states @ unit).std())


def candidates(material: Material, direction: str) -> list[Candidate]:
    """Layer and strength, in standard deviations."""
    found = []
    for layer in layers_tried(material.n_layer):
        unit, spread = probe_direction(material.rule[:, layer], material.memory[:, layer])
        step = at_layer(SIGN[direction] * spread * unit, layer, material.n_layer)
        found += [
            added(alpha * step, {"layer": layer + 1, "alpha": alpha}, positions)
            for alpha in ALPHAS
            for positions in material.positions
        ]
    return found


PROBE_DIRECTION = Method(
    "probe_direction", "Probe direction", "li2023iti", "ours", "steering", candidates, shifts=True
)
