"""The paper's neurons: the grid of lab 06, at its site and positions.

Source: Huang, Fu et al. (2025), arXiv 2412.18497.
"""

from __future__ import annotations

import numpy as np

from memgen.rivals.interventions import Shift
from memgen.rivals.material import Material
from memgen.rivals.method import Candidate, Method
from memgen.steering.cells import Cell
from memgen.terms import SIGN


def candidates(material: Material, direction: str) -> list[Candidate]:
    """A candidate a cell, in lab 06's order: `alpha * sign(rho) * |NMD|` on the top N."""
    return [_candidate(material, cell, SIGN[direction]) for cell in material.cells]


def _candidate(material: Material, cell: Cell, sign: float) -> Candidate:
    steering = material.steering
    shift = steering.shift(cell)
    return Candidate(
        f"top {cell.top_n:.3g}, alpha {cell.alpha:g}, {steering.positions}",
        {"top_n": cell.top_n, "alpha": cell.alpha, "positions": steering.positions},
        float(np.linalg.norm(shift)),
        Shift(sign * shift, steering.positions, steering.site),
    )


NMD = Method(
    "nmd",
    "NMD, top neurons (the paper)",
    "huang2025neuron",
    "paper",
    "steering",
    candidates,
    shifts=True,
)
