"""Which neurons differ between memorization and generalization: differences, correlations, tests,
shifts.

Arrays in, arrays out. Throughout, `memory` and `rule` are hidden states [n, L, d] of n pairs at L
layers of width d: row i of `memory` comes from a prompt answered from memory, row i of `rule` from
a prompt of the same key answered by the rule. A neuron is one coordinate (layer, index) of the
hidden state. Everything that is positive drives towards generalization. Sums run in float64, so
float32 states lose nothing on the way.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from memgen.neurons.nmd import share_by_layer
from memgen.stats.permutation import discoveries, sign_flip_test


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
