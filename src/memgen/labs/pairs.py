"""Lab 03: how often rephrasing alone flips the behaviour, and which pairs of prompts that gives.

A change of order keeps the key and both answers; a change of content asks another question. Both
are counted apart.
"""

from __future__ import annotations

import pandas as pd

from memgen.models.forced import Decisions
from memgen.neurons.pairs import answer_conflicts, flip_rate, flip_rates, flips, rephrased
from memgen.neurons.states import DECISIONS
from memgen.stats.intervals import number
from memgen.terms import BEHAVIORS, CHANGES, GENERALIZATION, MEMORIZATION, Change

__all__ = [
    "CHANGES",
    "DECISIONS",
    "Decisions",
    "answer_conflicts",
    "checks",
    "examples",
    "flips",
    "overview",
    "summary",
]
CHANGE_WORDS = {"order": "the order changes", "content": "the question changes"}
OVERVIEW = {
    "n_rephrasings": "rephrasings",
    "flip_rate": "flip rate",
    "same_answer": "keep the rule's answer",
    "n_pairs": "flip pairs",
    "n_pair_keys": "keys with a pair",
    "same_answer_pairs": "pairs that keep the rule's answer",
}


def summary(answered: pd.DataFrame, seed: int = 0) -> dict:
    """`result.json`: prompts and distinct texts by split; `by_change` the pairs and flip rates of each
    kind of change, and `flips` its rates by direction.

    `n_pairs`, `n_pair_keys` and `flip_rate` at the top are those of a change of order.
    """
    rates = flip_rates(answered, seed).to_dict("records")
    by_change = {change: of_change(answered, change, seed) for change in CHANGES}
    return {
        "n_prompts": answered.split.value_counts().to_dict(),
        "n_texts": answered.groupby("split").prompt.nunique().to_dict(),
        **{name: by_change["order"][name] for name in ("n_pairs", "n_pair_keys", "flip_rate")},
        "by_change": by_change,
        "flips": [
            {k: v if isinstance(v, str | int) else number(v) for k, v in row.items()}
            for row in rates
        ],
    }


def of_change(answered: pd.DataFrame, change: Change, seed: int) -> dict:
    """The rephrasings and the flip pairs of one kind of change, each number by split.

    `flip_rate`: of the originals that show one of the two behaviours, both directions together;
    None without any.
    """
    answered = answered.reset_index(drop=True)
    others, pairs = rephrased(answered), flips(answered, change)
    others = others[(others.change == change) & others.before.isin((MEMORIZATION, GENERALIZATION))]
    rule = answered.rule_answer
    kept = rule[pairs.memory].to_numpy() == rule[pairs.rule].to_numpy()
    found: dict[str, dict] = {}
    for split in answered.split.unique():
        asked, mine = others[others.split == split], pairs[pairs.split == split]
        opposite = asked.before.map(dict(zip(BEHAVIORS[:2], BEHAVIORS[1::-1])))
        flipped = (asked.behavior == opposite).to_numpy()
        rate = flip_rate(flipped, asked.key.to_numpy(), seed)
        texts = answered.prompt[[*mine.memory, *mine.rule]]
        here = {
            "n_rephrasings": rate["n"],
            "flip_rate": rate["rate"] if rate["n"] else None,
            "flip_rate_interval": [rate["low"], rate["high"]],
            "flip_rate_key_interval": [number(rate["key_low"]), number(rate["key_high"])],
            "same_answer": float(asked.same_answer.mean()) if len(asked) else None,
            "n_pairs": len(mine),
            "n_pair_keys": int(mine.key.nunique()),
            "n_pair_texts": int(texts.nunique()),
            "same_answer_pairs": float(kept[mine.index].mean()) if len(mine) else None,
        }
        for name, value in here.items():
            found.setdefault(name, {})[split] = value
    return found


def examples(answered: pd.DataFrame, pairs: dict[Change, pd.DataFrame], n: int = 2) -> pd.DataFrame:
    """The prompts of the first `n` pairs of each kind of change, memory first, with both answers."""
    told = ["key", "prompt", "answer", "behavior", "memory_answer", "rule_answer"]
    parts = {
        change: answered.loc[of[["memory", "rule"]].head(n).to_numpy().ravel(), told]
        for change, of in pairs.items()
    }
    return pd.concat(parts, names=["change"]).reset_index(level="change").reset_index(drop=True)


def checks(answered: pd.DataFrame, pairs: pd.DataFrame, change: Change) -> dict[str, bool]:
    """What every set of pairs of one kind of change must hold, by sentence."""
    memory, rule = (answered.loc[pairs[side]].reset_index(drop=True) for side in ("memory", "rule"))
    texts = pd.concat([memory.prompt, rule.prompt])
    held = {
        "the two prompts of a pair have one key": bool((memory.key == rule.key).all()),
        "one is answered from memory, the other by the rule": (
            set(memory.behavior) <= {MEMORIZATION} and set(rule.behavior) <= {GENERALIZATION}
        ),
        "no text is in two pairs": texts.is_unique,
    }
    if change == "order":
        answers = ["memory_answer", "rule_answer"]
        held["both prompts of a pair have the same two answers"] = memory[answers].equals(
            rule[answers]
        )
    return held


def overview(r: dict) -> pd.DataFrame:
    """The result by kind of change and split."""
    parts = {
        CHANGE_WORDS[change]: pd.DataFrame({OVERVIEW[name]: found[name] for name in OVERVIEW})
        for change, found in r["by_change"].items()
    }
    return pd.concat(parts, names=["change", "split"])
