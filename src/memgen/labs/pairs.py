"""Lab 03: how often rephrasing alone flips the behaviour, and which pairs of prompts that gives."""

from __future__ import annotations

import pandas as pd

from memgen.neurons.pairs import answer_conflicts, flip_rates, flips
from memgen.terms import GENERALIZATION, MEMORIZATION

__all__ = ["answer_conflicts", "checks", "examples", "flips", "overview", "summary"]


def summary(answered: pd.DataFrame) -> dict:
    """`result.json`: prompts, pairs, keys with a pair and flip rate by split; `flips` by direction, too."""
    pairs, rates = flips(answered), flip_rates(answered)
    splits = list(answered.split.unique())
    by_split = rates.groupby("split")[["flipped", "n"]].sum()
    return {
        "n_prompts": answered.split.value_counts().to_dict(),
        "n_pairs": {s: int((pairs.split == s).sum()) for s in splits},
        "n_pair_keys": {s: int(pairs[pairs.split == s].key.nunique()) for s in splits},
        "flip_rate": {s: float(by_split.flipped[s] / max(1, by_split.n[s])) for s in splits},
        "flips": rates.to_dict("records"),
    }


def examples(answered: pd.DataFrame, pairs: pd.DataFrame, n: int = 4) -> pd.DataFrame:
    """The prompts of the first pairs, each from memory and then by the rule, with the two answers."""
    rows = pairs[["memory", "rule"]].head(n).to_numpy().ravel()
    return answered.loc[
        rows, ["key", "prompt", "answer", "behavior", "memory_answer", "rule_answer"]
    ]


def checks(answered: pd.DataFrame, pairs: pd.DataFrame) -> dict[str, bool]:
    """What every set of pairs must hold, by sentence."""
    memory, rule = (answered.loc[pairs[side]].reset_index(drop=True) for side in ("memory", "rule"))
    return {
        "the two prompts of a pair have one key": bool((memory.key == rule.key).all()),
        "one is answered from memory, the other by the rule": (
            set(memory.behavior) <= {MEMORIZATION} and set(rule.behavior) <= {GENERALIZATION}
        ),
        "no prompt is in two pairs": pairs.memory.is_unique and pairs.rule.is_unique,
    }


def overview(r: dict) -> pd.DataFrame:
    """The result by split."""
    names = ("n_prompts", "n_pairs", "n_pair_keys", "flip_rate")
    return pd.DataFrame(
        dict(zip(("prompts", "flip pairs", "keys with a pair", "flip rate"), map(r.get, names)))
    )
