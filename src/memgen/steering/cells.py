"""Which neurons differ between memorization and generalization: differences, correlations, tests,
shifts.

Arrays in, arrays out. Throughout, `memory` and `rule` are hidden states [n, L, d] of n pairs at L
layers of width d: row i of `memory` comes from a prompt answered from memory, row i of `rule` from
a prompt of the same key answered by the rule. A neuron is one coordinate (layer, index) of the
hidden state. Everything that is positive drives towards generalization. Sums run in float64, so
float32 states lose nothing on the way.

Steering: choose a cell on validation keys, score it once on test keys, beside its controls,
ablations and side effects.

The paper's formula, on the `top_n` neurons by |rho|, all layers at once: h <- h + alpha * sign(rho)
* |NMD| towards generalization (`m2g`), and the same with the opposite sign towards memorization
(`g2m`). What a prompt would have answered unsteered is known from the pairs stage, so `m2g` runs on
prompts answered from memory only, `g2m` on those answered by the rule.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memgen.neurons.selection import select_top


def shift_vector(nmd: np.ndarray, rho: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The paper's shift at alpha = 1, [L, d]: sign(rho) * |NMD| on the mask, 0 elsewhere.

    Add it to generalize, subtract it to memorize. Source: Huang, Fu et al. (2025), arXiv
    2412.18497.
    """
    nmd, rho, mask = np.asarray(nmd), np.asarray(rho), np.asarray(mask, dtype=bool)
    if not nmd.shape == rho.shape == mask.shape:
        raise ValueError(
            f"shift_vector: shapes differ: nmd {nmd.shape}, rho {rho.shape}, mask {mask.shape}"
        )
    return np.where(mask, np.sign(rho) * np.abs(nmd), 0.0)


@dataclass(frozen=True)
class Cell:
    """One setting of the sweep: which share of the neurons, and how far."""

    top_n: float
    alpha: float


def grid(alphas: list[float], top_ns: list[float], nmd: np.ndarray, rho: np.ndarray) -> list[Cell]:
    """All cells, the smallest shift first, so that of two equally good cells the gentler one is
    chosen.
    """
    cells = [Cell(top_n, alpha) for top_n in top_ns for alpha in alphas]
    return sorted(cells, key=lambda c: (np.linalg.norm(cell_shift(c, nmd, rho)), c.top_n, c.alpha))


def cell_shift(cell: Cell, nmd: np.ndarray, rho: np.ndarray) -> np.ndarray:
    """`alpha * sign(rho) * |NMD|` on the cell's neurons, `[n_layer, d_model]`, towards
    generalization.
    """
    return cell.alpha * shift_vector(nmd, rho, select_top(rho, cell.top_n))


def random_shift(reference: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The reference's values dealt to as many random coordinates: same N, same norm, other neurons."""
    shift = np.zeros(reference.size, dtype=reference.dtype)
    values = reference[reference != 0]
    shift[rng.choice(reference.size, len(values), replace=False)] = rng.permutation(values)
    return shift.reshape(reference.shape)
