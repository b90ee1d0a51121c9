"""Reading a model's hidden states: what the differentiation and the prediction stage compute, from
its answered prompts.

The statistics are in `differentiation` and `prediction` (arrays in, arrays out); here the arrays
are made.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from memgen.config.analyses import DifferentiationParameters
from memgen.errors import StudyError
from memgen.models.generate import tokenize_prompts
from memgen.models.hooks import capture
from memgen.neurons.nmd import correlation, effect_size, nmd, share_by_layer
from memgen.neurons.nulls import same_behavior_nulls
from memgen.neurons.pairs import flips, same_behavior
from memgen.stats.permutation import discoveries, sign_flip_test
from memgen.tasks.dataset import spread
from memgen.terms import SITES


def differentiate(
    model, tokenizer, answered: pd.DataFrame, p: DifferentiationParameters
) -> tuple[dict, dict[str, np.ndarray], pd.DataFrame]:
    """NMD and rho at every site, the test and its nulls at `p.site`, from the flip pairs of train
    keys.

    Returns the stage's result, its arrays (`nmd.<site>`, `rho.<site>`, `memory`, `rule`, `p`,
    `effect_size`, `null_nmd`; float32) and the null's table.
    """
    answered = answered[answered.split == "train"].reset_index(drop=True)
    pairs = spread(flips(answered), p.max_pairs)
    if len(pairs) < 2:
        raise StudyError(
            f"task {p.task}, seed {p.seed}: fewer than two flip pairs on train keys; raise"
            " n_rephrasings or n_conflict_per_key, or train to a more balanced behaviour"
        )
    stays = {
        b: spread(same_behavior(answered, b), p.max_pairs)
        for b in ("memorization", "generalization")
    }
    needed = np.unique(
        np.concatenate(
            [
                np.asarray(part[side], dtype=int)
                for part in (pairs, *stays.values())
                for side in ("memory", "rule")
            ]
        )
    )
    ids, mask = tokenize_prompts(tokenizer, list(answered.prompt[needed]))
    labels, arrays = np.repeat([0, 1], len(pairs)), {}
    for site in SITES:
        states = dict(zip(needed, capture(model, ids, mask, site=site).numpy()))

        def of(rows) -> np.ndarray:
            return (
                np.stack([states[row] for row in rows])
                if len(rows)
                else np.empty((0, *next(iter(states.values())).shape), np.float32)
            )

        memory, rule = of(pairs.memory), of(pairs.rule)
        arrays[f"nmd.{site}"] = nmd(memory, rule)
        arrays[f"rho.{site}"] = correlation(np.concatenate([memory, rule]), labels)
        if site == p.site:
            arrays |= {
                "memory": memory,
                "rule": rule,
                "effect_size": effect_size(memory, rule),
                "p": sign_flip_test(rule - memory, pairs.key.to_numpy(), p.n_permutations, p.seed),
            }
            differences = {b: of(part.rule) - of(part.memory) for b, part in stays.items()}
            keys = {b: part.key.to_numpy() for b, part in stays.items()}
            null = same_behavior_nulls(
                differences["memorization"],
                keys["memorization"],
                differences["generalization"],
                keys["generalization"],
                n_permutations=p.n_permutations,
                seed=p.seed,
                q=p.fdr,
                max_pairs=len(pairs),
            )
            everything = np.concatenate(list(differences.values()))
            drawn = np.random.default_rng(p.seed).permutation(len(everything))[: len(pairs)]
            arrays["null_nmd"] = (
                everything[drawn].mean(0) if len(drawn) else np.zeros(memory.shape[1:])
            )
    arrays = {
        name: np.nan_to_num(np.asarray(value), posinf=0, neginf=0).astype(np.float32)
        for name, value in arrays.items()
    }
    both = null[null.behavior == "both"].sort_values("layer")
    result = {
        "site": p.site,
        "n_pairs": len(pairs),
        "n_keys": int(pairs.key.nunique()),
        "n_null_pairs": int(sum(map(len, stays.values()))),
        "max_abs_rho": np.abs(arrays[f"rho.{p.site}"]).max(1).tolist(),
        "mean_abs_nmd": np.abs(arrays[f"nmd.{p.site}"]).mean(1).tolist(),
        "significant_share": share_by_layer(discoveries(arrays["p"], p.fdr)).tolist(),
        "null_significant_share": [0.0 if pd.isna(v) else float(v) for v in both.significant_share],
    }
    return result, arrays, null
