"""The null of the differentiation test: pairs whose words change and whose behaviour does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from memgen.neurons.nmd import share_by_layer
from memgen.stats.permutation import discoveries, sign_flip_test

if TYPE_CHECKING:
    import pandas as pd


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
    Such a pair has no natural sign; its orientation is as drawn, rephrased - original. If
    rephrasing is symmetric, hardly a neuron may be significant, so the share says whether test and
    clustering hold their level, and exposes a drift that rephrasing alone brings along.
    `mean_abs_nmd` is what the prompt change moves a layer by on average over its neurons, to hold
    against the mean of |NMD|. `max_pairs`: at most that many pairs of each kind; set it to that of
    the real test, since both columns depend on it.

    Returns a row per kind (each behaviour, then "both" together) and layer: behavior, layer,
    n_pairs, n_keys, significant_share, mean_abs_nmd; the last two nan where there is no pair.
    """
    import pandas as pd

    both = tuple(np.concatenate(parts) for parts in zip(*pairs.values(), strict=True))
    rng = np.random.default_rng(seed)
    rows = []
    for behavior, (differences, keys) in (pairs | {"both": both}).items():
        if max_pairs is not None and len(keys) > max_pairs:
            drawn = np.sort(rng.choice(len(keys), size=max_pairs, replace=False))
            differences, keys = differences[drawn], keys[drawn]
        if len(keys):
            p = sign_flip_test(differences, keys, n_permutations, seed)
            share = share_by_layer(discoveries(p, q))
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
