"""Reading a model's hidden states: what the differentiation and the prediction stage compute, from
its answered prompts.

The statistics are in `differentiation` and `prediction` (arrays in, arrays out); here the arrays
are made.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from .behavior import next_token_scores, tokenize_prompts
from .config import DifferentiationParameters, PredictionParameters
from .differentiation import (
    correlation,
    discoveries,
    effect_size,
    nmd,
    same_behavior_nulls,
    share_by_layer,
    sign_flip_test,
)
from .errors import StudyError
from .hooks import capture
from .intervals import number
from .pairs import flips, same_behavior
from .prediction import baselines, fit_probes, probe_arrays, probe_by_layer, prompt_scores
from .sites import SITES
from .training import spread


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


def predict(
    model, tokenizer, answered: pd.DataFrame, p: PredictionParameters
) -> tuple[dict, dict[str, pd.DataFrame], dict[str, np.ndarray]]:
    """Probes per layer and site on test keys, beside their baselines: the stage's result, its
    tables and the probes of the first site.

    Tables: `probes`, `baselines`, and `scores`, one row a test prompt: its key, its behaviour
    (`label`, 1: rule), the log odds of the best layer's probe and of the prompt's tokens alone.
    Probes: `weight` [L, d] and `bias` [L], as `prediction.probe_arrays` writes them.

    The best layer is the one with the highest cross-validated AUC on *train* keys.
    """
    answered = answered[answered.behavior != "other"].drop_duplicates("prompt")
    parts = {
        split: spread(answered[answered.split == split], p.max_prompts).reset_index(drop=True)
        for split in ("train", "test")
    }
    labels = {
        split: (part.behavior == "generalization").to_numpy().astype(int)
        for split, part in parts.items()
    }
    keys = {split: part.key.to_numpy() for split, part in parts.items()}
    tokens = {
        split: tokenize_prompts(tokenizer, list(part.prompt)) for split, part in parts.items()
    }
    train_of = (labels["train"], keys["train"])
    tables, states, probes = [], {}, {}
    for site in p.sites:
        states[site] = {split: capture(model, *tokens[split], site=site).numpy() for split in parts}
        probes[site] = fit_probes(states[site]["train"], *train_of, seed=p.seed)
        tables.append(
            probe_by_layer(
                states[site]["train"],
                *train_of,
                states[site]["test"],
                labels["test"],
                keys["test"],
                seed=p.seed,
                n_resamples=p.n_resamples,
                probes=probes[site],
            ).assign(site=site)
        )
    main, first, fitted = tables[0], states[p.sites[0]], probes[p.sites[0]]
    best = int(main.cv_auc.fillna(0).to_numpy().argmax())
    scores = {split: next_token_scores(model, *tokens[split]) for split in parts}
    prompt_only = prompt_scores(
        tokens["train"][0].numpy(), *train_of, tokens["test"][0].numpy(), seed=p.seed
    )
    others = baselines(
        *train_of,
        labels["test"],
        keys["test"],
        train_states=first["train"][:, best],
        test_states=first["test"][:, best],
        prompt_only=prompt_only,
        train_scores=scores["train"],
        test_scores=scores["test"],
        seed=p.seed,
        n_shuffles=p.n_shuffles,
        n_resamples=p.n_resamples,
    )
    of = others.set_index("name")
    result = {
        "site": p.sites[0],
        "best_layer": best + 1,
        "n_train": len(parts["train"]),
        "n_test": len(parts["test"]),
        "n_test_keys": len(set(keys["test"])),
        "accuracy": [number(v) for v in main.accuracy],
        "auc": [number(v) for v in main.auc],
        "auc_interval": [
            [number(low), number(high)] for low, high in zip(main.auc_low, main.auc_high)
        ],
        "best_auc": number(main.auc[best]),
        "best_auc_interval": [number(main.auc_low[best]), number(main.auc_high[best])],
        "prompt_only_auc": number(of.auc["prompt_only"]),
        "shuffled_auc": number(of.auc["shuffled_labels"]),
        "margin_auc": number(of.auc["answer_margin"]),
        "entropy_auc": number(of.auc["entropy"]),
        "majority": number(of.accuracy["majority"]),
    }
    scored = pd.DataFrame(
        {
            "key": keys["test"],
            "label": labels["test"],
            "probe": fitted[best].log_odds(first["test"][:, best]),
            "prompt_only": prompt_only,
        }
    )
    return (
        result,
        {"probes": pd.concat(tables), "baselines": others, "scores": scored},
        probe_arrays(fitted, first["train"].shape[-1]),
    )
