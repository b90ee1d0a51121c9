"""What the differentiation test is held against: the base, and pairs whose behaviour stays.

The base never saw a key. If its states, too, differ between the prompts that the trained model
answers from memory and by the rule, these prompts differ systematically, whatever the model learned.
Pairs whose behaviour stays show what a change of words does, but only what all of them share: their
sign is arbitrary unless something orients it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from memgen.neurons.nmd import correlation, nmd, share_by_layer, split_half, state_norm
from memgen.stats.permutation import discoveries, sign_flip_test

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class SignFlips:
    """The test of every neuron: how many sign flips of keys, which false-discovery rate, which seed."""

    n_permutations: int
    q: float
    seed: int

    def significant_share(self, differences: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """Share of each layer's neurons [L] whose mean pair difference is not 0; all corrected together."""
        p = sign_flip_test(differences, keys, self.n_permutations, self.seed)
        return share_by_layer(discoveries(p, self.q))


def by_layer(
    memory: np.ndarray,
    rule: np.ndarray,
    keys: np.ndarray,
    test: SignFlips,
    reference: np.ndarray | None = None,
) -> pd.DataFrame:
    """How far pairs with these states [n, L, d] and keys [n] differ, a row per layer (from 0).

    Of the base's states of the flip pairs this is the base null; `reference`: the trained model's
    NMD [L, d] of the same coordinates. Columns: layer, n_pairs, n_keys, significant_share;
    mean_abs_nmd, the mean of |NMD| over the neurons, biased upwards by noise; nmd_split_half, their
    root mean square without that bias; nmd_relative, the length of NMD by that estimate in units of
    the layer's mean state; max_abs_rho; correlation, of NMD with the reference over the layer's
    neurons (nan: one of them is flat).
    """
    import pandas as pd

    values = nmd(memory, rule)
    differences = np.asarray(rule, dtype=np.float64) - memory
    half = split_half(differences, keys, np.random.default_rng(test.seed))
    norm = state_norm(memory, rule)
    length = half * np.sqrt(values.shape[1])
    rho = correlation(np.concatenate([memory, rule]), np.repeat([0, 1], len(memory)))
    return pd.DataFrame(
        {
            "layer": range(len(values)),
            "n_pairs": len(keys),
            "n_keys": len(np.unique(keys)),
            "significant_share": test.significant_share(differences, keys),
            "mean_abs_nmd": np.abs(values).mean(axis=1),
            "nmd_split_half": half,
            "nmd_relative": np.divide(length, norm, out=np.zeros_like(norm), where=norm > 0),
            "max_abs_rho": np.abs(rho).max(axis=1),
            "correlation": (
                np.nan if reference is None else [pearson(a, b) for a, b in zip(values, reference)]
            ),
        }
    )


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of two maps of neurons; nan where one of them is flat."""
    return float(np.corrcoef(a, b)[0, 1]) if np.ptp(a) > 0 and np.ptp(b) > 0 else float("nan")


def oriented(differences: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Differences [n, L, d], second - first, turned so that the prompt that looks more like a rule
    prompt counts as one; as drawn where they look alike.

    first, second: [n], how much the two prompts of a pair look like prompts that are answered by the
    rule (`orientation.rule_likeness`).
    """
    sign = np.where(np.asarray(second) < np.asarray(first), -1.0, 1.0)
    return differences * sign[:, None, None]


def same_behavior_nulls(
    pairs: dict[str, tuple[np.ndarray, np.ndarray]],
    *,
    n_permutations: int,
    seed: int,
    q: float = 0.05,
    max_pairs: int | None = None,
) -> pd.DataFrame:
    """The same test on pairs whose prompts differ but whose behaviour does not.

    pairs: differences [n, L, d] and keys [n] of the pairs that both show a behaviour, by behaviour.
    Such a pair has no natural sign. As drawn (rephrased - original) a systematic difference of
    prompts averages out, and only a drift that all rephrasings share can show; turned by `oriented`
    such a difference shows as well. `mean_abs_nmd` is what the prompt change moves a layer by on
    average over its neurons, to hold against the mean of |NMD|. `max_pairs`: at most that many pairs
    of each kind; set it to that of the real test, since both columns depend on it.

    Returns a row per kind (each behaviour, then "both" together) and layer: behavior, layer,
    n_pairs, n_keys, significant_share, mean_abs_nmd; the last two nan where there is no pair.
    """
    import pandas as pd

    both = tuple(np.concatenate(parts) for parts in zip(*pairs.values(), strict=True))
    rng, test = np.random.default_rng(seed), SignFlips(n_permutations, q, seed)
    rows = []
    for behavior, (differences, keys) in (pairs | {"both": both}).items():
        if max_pairs is not None and len(keys) > max_pairs:
            drawn = np.sort(rng.choice(len(keys), size=max_pairs, replace=False))
            differences, keys = differences[drawn], keys[drawn]
        if len(keys):
            share = test.significant_share(differences, keys)
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
