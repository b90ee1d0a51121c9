"""Which neurons differ: a permutation test that flips the signs of whole keys, and false discoveries."""

from __future__ import annotations

import numpy as np

from memgen.phases import phase
from memgen.stats.checks import refuse_not_finite


def sign_flip_test(
    differences: np.ndarray, keys: np.ndarray, n_permutations: int, seed: int
) -> np.ndarray:
    """Two-sided p-values [L, d] of the mean pair difference, by flipping the signs of whole keys.

    differences: [n, L, d], rule - memory; keys: [n]. If behaviour made no difference to a neuron,
    the two members of a pair could be swapped, and the sign of its difference flipped. Pairs of one
    key share operands or names (often a prompt, too): flipping each on its own would take ten pairs
    of one key for ten observations and find too much. They flip together; the keys are what is
    counted.

    p = (1 + #{|permuted| >= |observed|}) / (n_permutations + 1), hence never 0. Two limits follow.
    K keys allow only 2^(K-1) different sizes, so p cannot fall much below 2^(1-K). And a lone
    neuron among L*d survives `discoveries` at level q only if n_permutations + 1 >= L*d / q.
    Source: Phipson & Smyth (2010), Permutation p-values should never be zero.
    """
    differences, keys = np.asarray(differences), np.asarray(keys)
    if differences.ndim != 3 or len(differences) == 0 or keys.shape != differences.shape[:1]:
        raise ValueError(
            "sign_flip_test: differences [n, L, d] and keys [n] with n > 0 needed, got"
            f" {differences.shape} and {keys.shape}"
        )
    if n_permutations < 1:
        raise ValueError(f"n_permutations must be at least 1, got {n_permutations}")
    refuse_not_finite("differences", differences)

    sums = _sum_by_key(differences, keys)  # [K, L*d]
    n_keys, n_neurons = sums.shape
    # A permutation that flips nothing must count as equal, whatever order its terms were added in.
    rounding = 1e-12 * np.abs(sums).sum(axis=0)
    threshold = np.abs(sums.sum(axis=0)) - rounding  # [L*d]

    flips = np.random.default_rng(seed).integers(0, 2, size=(n_permutations, n_keys), dtype=np.int8)
    as_extreme = np.zeros(n_neurons, dtype=np.int64)
    block = max(1, 2**21 // n_neurons)  # permuted sums of one block: 16 MiB
    for start in range(0, n_permutations, block):
        with phase("probes"):
            signs = 1.0 - 2.0 * flips[start : start + block]  # [block, K]
            permuted = signs @ sums  # [block, L*d]
            as_extreme += np.count_nonzero(np.abs(permuted, out=permuted) >= threshold, axis=0)
    return ((1 + as_extreme) / (n_permutations + 1)).reshape(differences.shape[1:])


def discoveries(p: np.ndarray, q: float = 0.05) -> np.ndarray:
    """Neurons [L, d] that differ, at most a share q of them falsely (expected; Benjamini-Hochberg).

    All layers are corrected together. Valid for independent and positively dependent neurons.
    """
    from scipy.stats import false_discovery_control

    p = np.asarray(p, dtype=np.float64)
    if not 0 < q < 1:
        raise ValueError(f"q must lie between 0 and 1, got {q}")
    refuse_not_finite("p-values", p)
    adjusted: np.ndarray = false_discovery_control(p.ravel(), method="bh").reshape(p.shape)
    return adjusted <= q


def _sum_by_key(differences: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Float64 sums [K, L*d] of the rows of each key."""
    order = np.argsort(keys, kind="stable")
    _, starts = np.unique(keys[order], return_index=True)
    rows = differences.reshape(len(differences), -1)[order]
    return np.add.reduceat(rows, starts, axis=0, dtype=np.float64)
