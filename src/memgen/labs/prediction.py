"""Reading a model's hidden states: what the differentiation and the prediction stage compute, from
its answered prompts.

The statistics are in `differentiation` and `prediction` (arrays in, arrays out); here the arrays
are made.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from memgen.config.analyses import PredictionParameters
from memgen.models.generate import next_token_scores, tokenize_prompts
from memgen.models.hooks import capture
from memgen.neurons.baselines import baselines, prompt_scores
from memgen.neurons.probes import fit_probes, probe_arrays, probe_by_layer
from memgen.stats.intervals import number
from memgen.tasks.dataset import spread


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
