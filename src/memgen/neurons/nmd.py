"""Which neurons differ between memorization and generalization: mean differences and correlations.

Throughout, `memory` and `rule` are hidden states [n, L, d] of n pairs at L layers of width d: row i
of `memory` comes from a prompt answered from memory, row i of `rule` from a prompt of the same key
answered by the rule. A neuron is one coordinate (layer, index). What is positive drives towards
generalization. Sums run in float64, so float32 states lose nothing on the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from memgen.stats.checks import refuse_not_finite
from memgen.terms import Site

if TYPE_CHECKING:  # whoever reads states needs no tables
    import pandas as pd


def nmd(memory: np.ndarray, rule: np.ndarray) -> np.ndarray:
    """Neuron-wise mean difference [L, d]: the mean of rule - memory, in units of the hidden state.

    Raises ValueError without pairs or on unequal shapes. Source: Huang, Fu et al. (2025), arXiv
    2412.18497.
    """
    memory, rule = checked_pairs(memory, rule)
    return rule.mean(axis=0, dtype=np.float64) - memory.mean(axis=0, dtype=np.float64)


N_SPLITS = 20  # random halves of the keys that a split-half estimate averages over


def split_half(differences: np.ndarray, keys: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Root mean square NMD of each layer [L] by split halves, in units of the hidden state, signed.

    differences: [n, L, d], rule - memory; keys: [n]. The size of a noisy mean is too large by its
    noise, which would make NMD grow where pairs are few or states loud. Here the keys are dealt into
    two halves, and the NMD of one is multiplied with that of the other: their noises are independent
    (pairs of a key stay together), so the product's expectation is the square of the true NMD. It is
    averaged over neurons and over `N_SPLITS` deals; the result is the square root of its size with
    its sign. So it lies around 0, on both sides of it, where nothing differs. nan below two keys.
    """
    names, of_pair = np.unique(keys, return_inverse=True)
    n_keys = len(names)
    if n_keys < 2:
        return np.full(differences.shape[1], np.nan)
    sums = np.zeros((n_keys, *differences.shape[1:]))
    np.add.at(sums, of_pair, differences)
    counts = np.bincount(of_pair, minlength=n_keys)
    product = np.zeros(differences.shape[1])
    for _ in range(N_SPLITS):
        order = rng.permutation(n_keys)
        one, other = (
            sums[half].sum(axis=0) / counts[half].sum()
            for half in (order[: n_keys // 2], order[n_keys // 2 :])
        )
        product += (one * other).mean(axis=1) / N_SPLITS
    return np.sign(product) * np.sqrt(np.abs(product))


def state_norm(memory: np.ndarray, rule: np.ndarray) -> np.ndarray:
    """Mean length [L] of each layer's hidden states `[n, L, d]`: what an NMD is to be held against."""
    both = (np.linalg.norm(side.astype(np.float64), axis=2).mean(axis=0) for side in (memory, rule))
    return np.mean(list(both), axis=0)


def effect_size(memory: np.ndarray, rule: np.ndarray) -> np.ndarray:
    """Paired Cohen's d_z [L, d]: mean pair difference over its standard deviation (ddof 1).

    A paired t statistic is d_z * sqrt(n). Neurons that never differ get 0, those that always differ
    by the same amount an infinity of its sign; one pair has no spread and gives nan.
    """
    memory, rule = checked_pairs(memory, rule)
    if len(memory) < 2:
        return np.full(memory.shape[1:], np.nan)
    result = np.empty(memory.shape[1:])
    for layer in range(memory.shape[1]):  # layer by layer: a float64 copy of all states may not fit
        difference = rule[:, layer].astype(np.float64) - memory[:, layer]
        mean, spread = difference.mean(axis=0), difference.std(axis=0, ddof=1)
        constant = np.ptp(difference, axis=0) == 0  # exact, unlike a deviation of rounded numbers
        d_z = np.divide(mean, spread, out=np.zeros_like(mean), where=~constant)
        result[layer] = np.where(constant & (mean != 0), np.copysign(np.inf, mean), d_z)
    return result


def correlation(states: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """rho [L, d]: point-biserial (that is, Pearson) correlation of each neuron with the behaviour.

    states: [n, L, d]; labels: [n], 1 = generalization, 0 = memorization. A constant neuron gets 0,
    so that it is ranked last and never shifted. Raises ValueError unless both behaviours are there.
    On balanced pairs rho and NMD have the same sign.
    """
    states, labels = np.asarray(states), np.asarray(labels)
    if states.ndim != 3 or labels.shape != states.shape[:1]:
        raise ValueError(
            f"correlation: states [n, L, d] and labels [n] needed, got {states.shape} and"
            f" {labels.shape}"
        )
    refuse_not_finite("hidden states", states)
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


def share_by_layer(mask: np.ndarray) -> np.ndarray:
    """Share [L] of each layer's neurons that are in the mask [L, d]."""
    return np.asarray(mask, dtype=bool).mean(axis=1)


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


def checked_pairs(memory: np.ndarray, rule: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays. Raises ValueError without pairs, on unequal shapes and for nan or inf."""
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
    refuse_not_finite("hidden states", memory, rule)
    return memory, rule


@dataclass(frozen=True)
class NeuronMaps:
    """NMD and rho of every neuron at one site, `[n_layer, d_model]` each: where steering points."""

    site: Site
    nmd: np.ndarray
    rho: np.ndarray

    @classmethod
    def of(cls, arrays: dict[str, np.ndarray], site: Site) -> NeuronMaps:
        """The maps of a site among the arrays of lab 04."""
        return cls(site, arrays[f"nmd.{site}"], arrays[f"rho.{site}"])

    @classmethod
    def between(cls, site: Site, memory: np.ndarray, rule: np.ndarray) -> NeuronMaps:
        """The maps of pairs with these states, `[n, n_layer, d_model]` each."""
        labels = np.repeat([0, 1], len(memory))
        return cls(site, nmd(memory, rule), correlation(np.concatenate([memory, rule]), labels))

    def arrays(self) -> dict[str, np.ndarray]:
        """As lab 04 keeps them, under the names that `of` reads."""
        return {f"nmd.{self.site}": self.nmd, f"rho.{self.site}": self.rho}
