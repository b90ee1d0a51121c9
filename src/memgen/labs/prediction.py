"""Lab 05: probes and their baselines. Fitted and chosen on train keys, reported on test keys."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from memgen.models.generate import next_token_scores, tokenize_prompts
from memgen.neurons.baselines import baselines, prompt_scores
from memgen.neurons.probes import Examples, fit_probes, probe_arrays, probe_by_layer
from memgen.neurons.states import hidden_states, is_rule
from memgen.stats.columns import interval_pairs, numbers
from memgen.stats.intervals import number
from memgen.stats.reported import shown
from memgen.tasks.dataset import spread
from memgen.terms import OTHER, Site

__all__ = ["baselines", "fit_probes", "probe_arrays", "probe_by_layer"]  # for the notebook


def prompts(answered: pd.DataFrame, split: str, limit: int) -> pd.DataFrame:
    """At most `limit` different prompts of a split that show a behaviour, evenly over the keys."""
    chosen = answered[answered.behavior != OTHER].drop_duplicates("prompt")
    return spread(chosen[chosen.split == split], limit).reset_index(drop=True)


def examples(model, tokenizer, rows: pd.DataFrame, site: Site) -> Examples:
    """These prompts with their hidden states [n, L, d] at the decision position."""
    states = hidden_states(model, tokenizer, rows.prompt, site)
    return Examples(states, is_rule(rows), rows.key.to_numpy())


def best_layer(probes: pd.DataFrame) -> int:
    """The layer (from 0) with the highest cross-validated AUC on *train* keys."""
    return int(probes.cv_auc.fillna(0).to_numpy().argmax())


def from_the_words(tokenizer, train: pd.DataFrame, test: pd.DataFrame, seed: int) -> np.ndarray:
    """Log odds of generalization [n] of the test prompts from their tokens alone."""
    old, new = (tokenize_prompts(tokenizer, list(rows.prompt))[0].numpy() for rows in (train, test))
    return prompt_scores(old, is_rule(train), train.key.to_numpy(), new, seed=seed)


def with_own_scores(model, tokenizer, rows: pd.DataFrame, of: Examples) -> Examples:
    """The examples with what the model's own first-token distribution gives away, as `scores`."""
    tokens = tokenize_prompts(tokenizer, list(rows.prompt))
    return replace(of, scores=next_token_scores(model, *tokens))


def scores_table(test: pd.DataFrame, probe: np.ndarray, words: np.ndarray) -> pd.DataFrame:
    """One row per test prompt: key, `label` (1: rule), log odds of the probe and of the words."""
    return pd.DataFrame(
        {"key": test.key, "label": is_rule(test), "probe": probe, "prompt_only": words}
    )


def summary(probes: pd.DataFrame, others: pd.DataFrame, site: Site, best: int) -> dict:
    """`result.json` from the probes of the first site and the baselines; lists are by layer."""
    of, pairs, at = others.set_index("name"), interval_pairs(probes, "auc"), probes.iloc[best]
    return {
        "site": site,
        "best_layer": best + 1,
        "n_train": int(at.n_train),
        "n_test": int(at.n_test),
        "n_test_keys": int(at.n_test_keys),
        "accuracy": numbers(probes.accuracy),
        "auc": numbers(probes.auc),
        "auc_interval": pairs,
        "best_auc": number(at.auc),
        "best_auc_interval": pairs[best],
        "prompt_only_auc": number(of.auc["prompt_only"]),
        "shuffled_auc": number(of.auc["shuffled_labels"]),
        "margin_auc": number(of.auc["answer_margin"]),
        "entropy_auc": number(of.auc["entropy"]),
        "majority": number(of.accuracy["majority"]),
    }


def shared_keys(answered: pd.DataFrame) -> set[str]:
    """Keys of both train and test prompts; there must be none."""
    train, test = (set(answered.key[answered.split == split]) for split in ("train", "test"))
    return train & test


def in_words(r: dict) -> str:
    """The answer of the lab: the best layer's probe beside two of its baselines."""
    low, high = map(shown, r["best_auc_interval"])
    return (
        f"AUC {shown(r['best_auc'])} [{low}, {high}] at layer {r['best_layer']} on {r['n_test']} prompts"
        f" of {r['n_test_keys']} test keys; from the prompt's tokens alone {shown(r['prompt_only_auc'])},"
        f" shuffled labels {shown(r['shuffled_auc'])}."
    )
