"""Cells of the steering sweep, and the shift that each of them stands for."""

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
    """All cells, the smallest shift first: of two equally good cells the gentler one is chosen."""
    cells = [Cell(top_n, alpha) for top_n in top_ns for alpha in alphas]
    return sorted(cells, key=lambda c: (np.linalg.norm(cell_shift(c, nmd, rho)), c.top_n, c.alpha))


def cell_shift(cell: Cell, nmd: np.ndarray, rho: np.ndarray) -> np.ndarray:
    """`alpha * sign(rho) * |NMD|` on its neurons, `[n_layer, d_model]`, towards generalization."""
    return cell.alpha * shift_vector(nmd, rho, select_top(rho, cell.top_n))


def cumulative_norm(shift: np.ndarray) -> float:
    """L2 norm of the sum over the layers of a shift `[L, d]`.

    What every block adds stays in the residual stream, so this is how far the last layer's state
    is pushed, apart from what the blocks make of it.
    """
    return float(np.linalg.norm(np.asarray(shift, dtype=np.float64).sum(axis=0)))


def random_shift(reference: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A shift (or mask of neurons) `[L, d]` on random neurons: one permutation for all layers.

    So the layers, the number of neurons and the norm in each of them, and the cumulative norm stay.
    """
    return reference[:, rng.permutation(reference.shape[1])]
