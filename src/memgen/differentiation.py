"""Which neurons differ between memorization and generalization: differences, correlations, tests,
shifts.

Arrays in, arrays out. Throughout, `memory` and `rule` are hidden states [n, L, d] of n pairs at L
layers of width d: row i of `memory` comes from a prompt answered from memory, row i of `rule` from
a prompt of the same key answered by the rule. A neuron is one coordinate (layer, index) of the
hidden state. Everything that is positive drives towards generalization. Sums run in float64, so
float32 states lose nothing on the way.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

TOP_SHARE = 0.05  # of all layer x neuron coordinates, where the top neurons of two maps or models are compared
CONTROLS = (
    "random_neurons",
    "other_neurons",
    "low_rho",
    "permuted",
    "random_sign",
    "shuffled_labels",
)


# -- how large is it -------------------------------------------------------------------------------


def nmd(memory: np.ndarray, rule: np.ndarray) -> np.ndarray:
    """Neuron-wise mean difference [L, d]: the mean of rule - memory over the pairs, in units of the
    hidden state.

    Source: Huang, Fu et al. (2025), arXiv 2412.18497. Raises ValueError without pairs or on unequal
    shapes.
    """
    memory, rule = _pairs(memory, rule)
    return rule.mean(axis=0, dtype=np.float64) - memory.mean(axis=0, dtype=np.float64)


def effect_size(memory: np.ndarray, rule: np.ndarray) -> np.ndarray:
    """Paired Cohen's d_z [L, d]: mean of the pair differences over their standard deviation (ddof
    1).

    A paired t statistic is d_z * sqrt(n). Neurons that never differ get 0, those that always differ
    by the same amount get an infinity of its sign; one pair has no spread and gives nan.
    """
    memory, rule = _pairs(memory, rule)
    if len(memory) < 2:
        return np.full(memory.shape[1:], np.nan)
    result = np.empty(memory.shape[1:])
    for layer in range(memory.shape[1]):  # layer by layer: a float64 copy of all states may not fit
        difference = rule[:, layer].astype(np.float64) - memory[:, layer]
        mean, spread = difference.mean(axis=0), difference.std(axis=0, ddof=1)
        constant = (
            np.ptp(difference, axis=0) == 0
        )  # exact, unlike a standard deviation of rounded numbers
        d_z = np.divide(mean, spread, out=np.zeros_like(mean), where=~constant)
        result[layer] = np.where(constant & (mean != 0), np.copysign(np.inf, mean), d_z)
    return result


def correlation(states: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """rho [L, d]: point-biserial (that is, Pearson) correlation of each neuron with the behaviour.

    states: [n, L, d]; labels: [n], 1 = generalization, 0 = memorization. A neuron that is constant
    over all prompts has no correlation; it gets 0, so that it is ranked last and never shifted.
    Raises ValueError unless both behaviours are there. On balanced pairs rho and NMD have the same
    sign.
    """
    states, labels = np.asarray(states), np.asarray(labels)
    if states.ndim != 3 or labels.shape != states.shape[:1]:
        raise ValueError(
            f"correlation: states [n, L, d] and labels [n] needed, got {states.shape} and"
            f" {labels.shape}"
        )
    _finite("hidden states", states)
    if not np.array_equal(np.unique(labels), [0, 1]):
        raise ValueError(
            "correlation: labels must hold both 0 and 1, and only them, got"
            f" {np.unique(labels)[:5]}"
        )

    centred_labels = labels - labels.mean()
    rho = np.zeros(states.shape[1:])
    for layer in range(states.shape[1]):
        x = states[:, layer].astype(np.float64)
        varies = np.ptp(x, axis=0) > 0
        x -= x.mean(axis=0)
        scale = np.sqrt((x * x).sum(axis=0) * (centred_labels @ centred_labels))
        np.divide(centred_labels @ x, scale, out=rho[layer], where=varies & (scale > 0))
    return rho.clip(-1, 1)


# -- is it more than chance ------------------------------------------------------------------------


def sign_flip_test(
    differences: np.ndarray, keys: np.ndarray, n_permutations: int, seed: int
) -> np.ndarray:
    """Two-sided p-values [L, d] of the mean pair difference, by flipping the signs of whole keys.

    differences: [n, L, d], rule - memory; keys: [n]. If behaviour made no difference to a neuron,
    the two members of a pair could be swapped, and the sign of its difference flipped. Pairs of one
    key share operands or names (often a prompt, too), so they are not independent: flipping each on
    its own would take ten pairs of one key for ten observations and find too much. Pairs of a key
    therefore flip together, and the keys are what is counted.

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
    _finite("differences", differences)

    sums = _sum_by_key(differences, keys)  # [K, L*d]
    n_keys, n_neurons = sums.shape
    # A permutation that flips nothing must count as equal, whatever order its terms were added in.
    rounding = 1e-12 * np.abs(sums).sum(axis=0)
    threshold = np.abs(sums.sum(axis=0)) - rounding  # [L*d]

    flips = np.random.default_rng(seed).integers(0, 2, size=(n_permutations, n_keys), dtype=np.int8)
    as_extreme = np.zeros(n_neurons, dtype=np.int64)
    block = max(1, 2**21 // n_neurons)  # permuted sums of one block: 16 MiB
    for start in range(0, n_permutations, block):
        signs = 1.0 - 2.0 * flips[start : start + block]  # [block, K]
        permuted = signs @ sums  # [block, L*d]
        as_extreme += np.count_nonzero(np.abs(permuted, out=permuted) >= threshold, axis=0)
    return ((1 + as_extreme) / (n_permutations + 1)).reshape(differences.shape[1:])


def discoveries(p: np.ndarray, q: float = 0.05) -> np.ndarray:
    """Neurons [L, d] that differ, with an expected share of false ones of at most q
    (Benjamini-Hochberg).

    All layers are corrected together. Valid for independent and positively dependent neurons.
    """
    from scipy.stats import false_discovery_control

    p = np.asarray(p, dtype=np.float64)
    if not 0 < q < 1:
        raise ValueError(f"q must lie between 0 and 1, got {q}")
    _finite("p-values", p)
    return false_discovery_control(p.ravel(), method="bh").reshape(p.shape) <= q


def share_by_layer(mask: np.ndarray) -> np.ndarray:
    """Share [L] of each layer's neurons that are in the mask [L, d]."""
    return np.asarray(mask, dtype=bool).mean(axis=1)


def same_behavior_nulls(
    memory_differences: np.ndarray,
    memory_keys: np.ndarray,
    rule_differences: np.ndarray,
    rule_keys: np.ndarray,
    *,
    n_permutations: int,
    seed: int,
    q: float = 0.05,
    max_pairs: int | None = None,
) -> pd.DataFrame:
    """The same test on pairs whose prompts differ but whose behaviour does not.

    memory_differences: [n, L, d] of memory-memory pairs; rule_differences: of rule-rule pairs;
    keys: [n] each. Such a pair has no natural sign; its orientation is as drawn, rephrased -
    original. If rephrasing is symmetric, hardly a neuron may be significant, so the share says
    whether test and clustering hold their level, and exposes a drift that rephrasing alone brings
    along. `mean_abs_nmd` is what the prompt change moves a layer by on average over its neurons, to
    hold against the mean of |NMD|. `max_pairs` draws at most that many pairs of each kind: set it
    to the number of pairs of the real test, since both columns depend on the number of pairs.

    Returns a table with a row per kind ("memorization", "generalization", "both") and layer:
    behavior, layer, n_pairs, n_keys, significant_share, mean_abs_nmd; the last two nan where there
    is no pair.
    """
    import pandas as pd

    kinds = {
        "memorization": (np.asarray(memory_differences), np.asarray(memory_keys)),
        "generalization": (np.asarray(rule_differences), np.asarray(rule_keys)),
    }
    kinds["both"] = tuple(np.concatenate(parts) for parts in zip(*kinds.values(), strict=True))

    rng = np.random.default_rng(seed)
    rows = []
    for behavior, (differences, keys) in kinds.items():
        if max_pairs is not None and len(keys) > max_pairs:
            drawn = np.sort(rng.choice(len(keys), size=max_pairs, replace=False))
            differences, keys = differences[drawn], keys[drawn]
        if len(keys):
            share = share_by_layer(
                discoveries(sign_flip_test(differences, keys, n_permutations, seed), q)
            )
            size = np.abs(differences.mean(axis=0, dtype=np.float64)).mean(axis=1)
        else:
            share = size = np.full(differences.shape[1], np.nan)
        rows += [
            {
                "behavior": behavior,
                "layer": layer,
                "n_pairs": len(keys),
                "n_keys": len(np.unique(keys)),
                "significant_share": share[layer],
                "mean_abs_nmd": size[layer],
            }
            for layer in range(len(share))
        ]
    return pd.DataFrame(rows)


# -- selection and shift ---------------------------------------------------------------------------


def select_top(score: np.ndarray, share: float) -> np.ndarray:
    """Mask [L, d] of the ceil(share * L * d) neurons with the largest |score| over all layers
    together.

    share is the `top_n` of a sweep, in (0, 1]. Ties go to the lower layer, then to the lower index.
    Raises ValueError naming `top_n` for any other share, and for scores that are not finite.
    """
    score = np.asarray(score, dtype=np.float64)
    try:
        share = float(share)
    except (TypeError, ValueError):
        share = math.nan
    if not 0 < share <= 1:  # nan fails, too
        raise ValueError(
            f"top_n must be a share of all neurons, above 0 and at most 1, got {share}"
        )
    _finite("score", score)
    n_neurons = math.ceil(round(share * score.size, 9))  # 0.07 * 100 is 7.000000000000001
    return _largest(np.abs(score), n_neurons)


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


def control_shifts(
    reference: np.ndarray,
    nmd: np.ndarray,
    rho: np.ndarray,
    memory: np.ndarray,
    rule: np.ndarray,
    *,
    rng: np.random.Generator,
    n_draws: int = 1,
) -> dict[str, list[np.ndarray]]:
    """Shifts that should *not* steer, each with as many neurons and the same L2 norm as the
    reference.

    reference: shift [L, d] under test; its neurons are where it is not 0, N of them. nmd, rho: [L,
    d]. memory, rule: the pairs [n, L, d] that nmd and rho were computed from. Values are [L, d], by
    name:

    - random_neurons: the reference's signed values, dealt to N random neurons outside it;
    - other_neurons: N random neurons outside the reference, with their own sign(rho) * |NMD|,
      rescaled. They point the same way as the reference does, so this tests the choice of the
      neurons, not the direction of the shift;
    - low_rho: the N neurons outside the reference with the smallest |rho|, given the reference's
      magnitudes (the largest to the largest |NMD|) with sign(rho). Nothing is random here: one
      shift, whatever n_draws;
    - permuted: the reference's neurons, its signed values dealt out anew among them;
    - random_sign: the reference's neurons and magnitudes, random signs;
    - shuffled_labels: the labels of half of the pairs swapped, then NMD, rho and the top N computed
      anew, rescaled. Exactly half (of an odd number one pair sits out), because independent coin
      flips leave about 1/sqrt(n) of the true difference, of either sign, and rescaling would blow
      that up to the very shift under test.

    Neurons outside the reference that never differ (NMD or rho 0) cannot be shifted and are passed
    over. Where fewer than N are left, as for top_n above 0.5, random_neurons, other_neurons and
    low_rho do not exist: their lists are empty. So is that of shuffled_labels for a single pair.
    Each control has a random stream of its own, so more draws of one do not change another.
    """
    reference, nmd, rho = (np.asarray(array, dtype=np.float64) for array in (reference, nmd, rho))
    memory, rule = _pairs(memory, rule)
    if not reference.shape == nmd.shape == rho.shape == memory.shape[1:]:
        raise ValueError(
            f"control_shifts: shapes differ: reference {reference.shape}, nmd {nmd.shape}, rho"
            f" {rho.shape}, pairs {memory.shape}"
        )
    touched = reference != 0
    n_neurons, norm = int(touched.sum()), np.linalg.norm(reference)
    if n_neurons == 0:
        raise ValueError("control_shifts: the reference shift is 0 everywhere")
    streams = dict(zip(CONTROLS, rng.spawn(len(CONTROLS)), strict=True))

    available = ~touched & (nmd != 0) & (rho != 0)
    enough = int(available.sum()) >= n_neurons
    half = len(memory) // 2

    def drawn(rng):
        chosen = np.zeros(reference.size, dtype=bool)
        chosen[rng.choice(np.flatnonzero(available), size=n_neurons, replace=False)] = True
        return chosen.reshape(reference.shape)

    def random_neurons(rng):
        shift = np.zeros_like(reference)
        shift[drawn(rng)] = rng.permutation(reference[touched])
        return shift

    def other_neurons(rng):
        return _rescaled(shift_vector(nmd, rho, drawn(rng)), norm)

    def low_rho(rng):
        chosen = _largest(np.where(available, -np.abs(rho), -np.inf), n_neurons)
        rank = np.argsort(np.argsort(np.abs(nmd[chosen]), kind="stable"), kind="stable")
        shift = np.zeros_like(reference)
        shift[chosen] = np.sign(rho[chosen]) * np.sort(np.abs(reference[touched]))[rank]
        return shift

    def permuted(rng):
        shift = np.zeros_like(reference)
        shift[touched] = rng.permutation(reference[touched])
        return shift

    def random_sign(rng):
        return np.abs(reference) * rng.choice([-1.0, 1.0], size=reference.shape)

    def shuffled_labels(rng):
        swapped, kept = np.split(rng.permutation(len(memory))[: 2 * half], 2)
        first = np.concatenate([rule[swapped], memory[kept]])
        second = np.concatenate([memory[swapped], rule[kept]])
        return _reference_like(first, second, n_neurons, norm)

    draws = dict.fromkeys(CONTROLS, n_draws) | {"low_rho": min(1, n_draws)}
    if not enough:
        draws |= {"random_neurons": 0, "other_neurons": 0, "low_rho": 0}
    if half == 0:
        draws |= {"shuffled_labels": 0}
    make = {
        f.__name__: f
        for f in (random_neurons, other_neurons, low_rho, permuted, random_sign, shuffled_labels)
    }
    return {name: [make[name](streams[name]) for _ in range(draws[name])] for name in CONTROLS}


def top_neurons_table(
    nmd: np.ndarray,
    rho: np.ndarray,
    effect_size: np.ndarray,
    p: np.ndarray,
    significant: np.ndarray,
    k: int = 20,
) -> pd.DataFrame:
    """The k neurons with the largest |rho|, best first; layers and neurons count from 0.

    All arrays [L, d]. Columns: layer, neuron, nmd, rho, effect_size, p, significant.
    """
    import pandas as pd

    rho = np.asarray(rho)
    best = np.argsort(-np.abs(rho), axis=None, kind="stable")[:k]
    layer, neuron = np.unravel_index(best, rho.shape)
    columns = {
        "nmd": nmd,
        "rho": rho,
        "effect_size": effect_size,
        "p": p,
        "significant": significant,
    }
    values = {name: np.asarray(array)[layer, neuron] for name, array in columns.items()}
    return pd.DataFrame({"layer": layer, "neuron": neuron} | values)


# -- parts -----------------------------------------------------------------------------------------


def _pairs(memory: np.ndarray, rule: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    memory, rule = np.asarray(memory), np.asarray(rule)
    if memory.ndim != 3 or memory.shape != rule.shape:
        raise ValueError(
            f"pairs need memory and rule states of one shape [n, L, d], got {memory.shape},"
            f" {rule.shape}"
        )
    if len(memory) == 0:
        raise ValueError(
            "there are no pairs: rephrase more prompts, or train until both behaviours show"
        )
    _finite("hidden states", memory, rule)
    return memory, rule


def _finite(name: str, *arrays: np.ndarray) -> None:
    # Every comparison with nan is false, so a nan would pass through the tests as a significant
    # neuron.
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError(f"{name} must be finite, but hold nan or inf")


def _sum_by_key(differences: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Float64 sums [K, L*d] of the rows of each key."""
    order = np.argsort(keys, kind="stable")
    _, starts = np.unique(keys[order], return_index=True)
    rows = differences.reshape(len(differences), -1)[order]
    return np.add.reduceat(rows, starts, axis=0, dtype=np.float64)


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Mask of the `count` largest values; ties go to the first in memory order."""
    mask = np.zeros(values.size, dtype=bool)
    mask[np.argsort(-values, axis=None, kind="stable")[:count]] = True
    return mask.reshape(values.shape)


def _rescaled(shift: np.ndarray, norm: float) -> np.ndarray:
    own_norm = np.linalg.norm(shift)
    if own_norm == 0:
        raise ValueError(
            "a control shift is 0 everywhere and cannot be given a norm: too few or identical pairs"
        )
    return shift * (norm / own_norm)


def _reference_like(
    memory: np.ndarray, rule: np.ndarray, n_neurons: int, norm: float
) -> np.ndarray:
    """The shift that the study's own recipe makes from these pairs, with n_neurons neurons and a
    given norm.
    """
    labels = np.repeat([0, 1], len(memory))
    rho = correlation(np.concatenate([memory, rule]), labels)
    return _rescaled(shift_vector(nmd(memory, rule), rho, _largest(np.abs(rho), n_neurons)), norm)
