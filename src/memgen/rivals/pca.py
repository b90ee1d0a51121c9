"""The first principal component of what pairs differ by, layer by layer, in two kinds of centring.

Source: Zou et al. (2023), arXiv 2310.01405, and the code of repeng (github.com/vgel/repeng,
`repeng/extract.py`): `pca_diff` is a PCA of the differences, `pca_center` one of both halves of every pair
around their mean. A PCA centres what it is given. Halves around their mean have none to lose; but differences
have, and it is what the pairs have in common: `pca_diff`, repeng's default, looks at what is left without it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from memgen.rivals.material import Material
from memgen.rivals.method import Candidate, Method
from memgen.rivals.vectors import all_layers
from memgen.terms import SIGN

COEFFICIENTS = tuple(
    float(x) for x in np.geomspace(0.02, 3, 25).round(4)
)  # mean lengths of a state
Operator = Callable[[np.ndarray, np.ndarray], np.ndarray]


def pca_diff(rule: np.ndarray, memory: np.ndarray) -> np.ndarray:
    """Unit vector `[d]` of one layer's pairs `[n, d]`: of the differences around their mean."""
    differences = rule.astype(np.float64) - memory
    return _towards_rule(_first(differences - differences.mean(axis=0)), differences)


def pca_center(rule: np.ndarray, memory: np.ndarray) -> np.ndarray:
    """Unit vector `[d]` of one layer's pairs `[n, d]`: of the differences as they are."""
    differences = rule.astype(np.float64) - memory
    # halves are plus and minus half a difference: what they spread along, the differences do around 0
    return _towards_rule(_first(differences), differences)


def _first(rows: np.ndarray) -> np.ndarray:
    """The direction `[d]` in which rows `[n, d]` are longest."""
    values, vectors = np.linalg.eigh(rows.T @ rows)
    return np.asarray(vectors[:, values.argmax()])


def _towards_rule(unit: np.ndarray, differences: np.ndarray) -> np.ndarray:
    """Turned to where most pairs have their answer by the rule."""
    along = differences @ unit
    return -unit if (along < 0).mean() > (along > 0).mean() else unit


def directions(material: Material, operator: Operator) -> np.ndarray:
    """Of all layers, `[L, d]`."""
    return np.stack(
        [
            operator(material.rule[:, layer], material.memory[:, layer])
            for layer in range(material.n_layer)
        ]
    )


def _candidates(operator: Operator) -> Callable[[Material, str], list[Candidate]]:
    def candidates(material: Material, direction: str) -> list[Candidate]:
        one = SIGN[direction] * material.state_norm.mean()
        return all_layers(one * directions(material, operator), COEFFICIENTS, material.positions)

    return candidates


PCA_CENTER = Method(
    "pca_center",
    "PCA of pairs (RepE)",
    "zou2023repe",
    "code",
    "steering",
    _candidates(pca_center),
    shifts=True,
)
PCA_DIFF = Method(
    "pca_diff",
    "PCA of differences (repeng)",
    "vogel2024repeng",
    "code",
    "steering",
    _candidates(pca_diff),
    shifts=True,
)
