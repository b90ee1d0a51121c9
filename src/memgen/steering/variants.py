"""Variants of a shift: one ingredient exchanged, the L2 norm over all layers together kept."""

from __future__ import annotations

import numpy as np

from memgen.neurons.selection import select_top
from memgen.steering.cells import shift_vector

#: by variant its draws (most have one), each [L, d]; none where the variant does not exist
Shifts = dict[str, list[np.ndarray]]


def rescaled(shift: np.ndarray, norm: float) -> list[np.ndarray]:
    """The shift `[L, d]` at this L2 norm over all layers, as the only draw; none if either is 0."""
    own = np.linalg.norm(shift)
    return [shift * (norm / own)] if own > 0 and norm > 0 else []


def by_layer(reference: np.ndarray) -> Shifts:
    """`layer_k_only`, `all_but_layer_k` (from 1) at the whole's norm; no shift for empty layers."""
    norm, layer = np.linalg.norm(reference), np.arange(1, len(reference) + 1)[:, None]
    only = {
        f"layer_{k}_only": rescaled(np.where(layer == k, reference, 0), norm)
        for k in range(1, len(reference) + 1)
    }
    return only | {
        f"all_but_layer_{k}": rescaled(np.where(layer == k, 0, reference), norm)
        for k in range(1, len(reference) + 1)
    }


def by_count(
    nmd: np.ndarray,
    rho: np.ndarray,
    norm: float,
    counts: list[int],
    n_draws: int,
    rng: np.random.Generator,
) -> Shifts:
    """`n_<N>`: the N neurons with the largest |rho|; `random_<N>`: N random ones; `all`: all.

    All with their own sign(rho) * |NMD|, rescaled to `norm`. Random neurons (`n_draws` times) are
    drawn from all that differ at all (NMD and rho not 0), the chosen ones among them; a draw of N
    is the start of the draw of a larger N, as the ranking is. A count of all coordinates or more is
    `all`.
    """
    alive = np.flatnonzero((nmd != 0) & (rho != 0))
    orders = [rng.permutation(alive) for _ in range(n_draws)]
    found: Shifts = {}
    for count in counts:
        possible = count < rho.size
        found[f"n_{count}"] = (
            rescaled(shift_vector(nmd, rho, select_top(rho, count / rho.size)), norm)
            if possible
            else []
        )
        masks = [
            np.isin(np.arange(rho.size), order[:count]).reshape(rho.shape)
            for order in orders
            if possible and count <= len(order)
        ]
        found[f"random_{count}"] = [
            one for mask in masks for one in rescaled(shift_vector(nmd, rho, mask), norm)
        ]
    return found | {"all": rescaled(shift_vector(nmd, rho, np.ones(rho.shape, dtype=bool)), norm)}


def p_ranking(p: np.ndarray, rho: np.ndarray) -> np.ndarray:
    """A score `[L, d]` that ranks the smallest p first and, of equal ones, the larger |rho|."""
    order = np.lexsort((-np.abs(rho).ravel(), p.ravel()))
    score = np.empty(p.size)
    score[order] = np.arange(p.size, 0, -1)
    return score.reshape(p.shape)


def rankings(
    nmd: np.ndarray, tests: dict[str, np.ndarray], rho: np.ndarray
) -> dict[str, np.ndarray | None]:
    """Other scores `[L, d]` to rank by, largest |score| first; None where `tests` lacks them."""
    p = tests.get("p")
    return {
        "abs_nmd": nmd,
        "effect_size": tests.get("effect_size"),
        "smallest_p": None if p is None else p_ranking(p, rho),
    }


def by_ranking(
    nmd: np.ndarray,
    rho: np.ndarray,
    top_n: float,
    norm: float,
    scores: dict[str, np.ndarray | None],
) -> Shifts:
    """The `top_n` share of the neurons by each score: sign(rho) * |NMD|, rescaled to `norm`."""
    return {
        name: (
            []
            if score is None
            else rescaled(shift_vector(nmd, rho, select_top(score, top_n)), norm)
        )
        for name, score in scores.items()
    }


def by_magnitude(reference: np.ndarray, nmd: np.ndarray, weights: np.ndarray) -> Shifts:
    """On the reference's neurons: `constant`, sign only, or probe weights; and all neurons' NMD."""
    norm, chosen = np.linalg.norm(reference), reference != 0
    values = {
        "constant": np.sign(reference),
        "probe_weight": np.where(chosen, weights, 0),
        "dense_difference": nmd,
    }
    return {name: rescaled(one, norm) for name, one in values.items()}
