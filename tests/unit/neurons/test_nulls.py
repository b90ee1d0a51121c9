"""Pairs whose behaviour stays are null, unless rephrasing itself drifts."""

import numpy as np

from memgen.neurons.nulls import same_behavior_nulls
from planted_states import LAYERS, WIDTH


def test_same_behavior_nulls_are_null_and_expose_a_drift():
    rng = np.random.default_rng(3)
    memory, rule = rng.normal(size=(2, 80, LAYERS, WIDTH))
    rule[:, 1] += 2  # rephrasing moves all of layer 1 in the rule-rule pairs
    keys = np.repeat(np.arange(40), 2)
    pairs = {"memorization": (memory, keys), "generalization": (rule, keys)}
    table = same_behavior_nulls(pairs, n_permutations=2000, seed=0)
    share = table.pivot(index="layer", columns="behavior", values="significant_share")
    assert share["memorization"].max() <= 0.1
    assert share.loc[1, ["generalization", "both"]].tolist() == [1, 1]
    assert share.loc[[0, 2], "generalization"].max() <= 0.2
    n_pairs = table.groupby("behavior").n_pairs.first()
    assert n_pairs.to_dict() == {"both": 160, "generalization": 80, "memorization": 80}
    assert (table.n_keys == 40).all()
    size = table[table.behavior == "generalization"].mean_abs_nmd
    assert size.argmax() == 1

    none = pairs | {"generalization": (rule[:0], keys[:0])}
    fewer = same_behavior_nulls(none, n_permutations=99, seed=0, max_pairs=30)
    assert fewer.groupby("behavior").n_pairs.first().to_dict() == {
        "both": 30,
        "generalization": 0,
        "memorization": 30,
    }
    assert fewer[fewer.behavior == "generalization"].significant_share.isna().all()
