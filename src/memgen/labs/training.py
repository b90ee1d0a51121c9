"""Lab 02: the kept checkpoint, held against the gate on test keys."""

from __future__ import annotations

import pandas as pd

from memgen.stats.intervals import wilson
from memgen.training.base import base_for, tokenizer_for
from memgen.training.dual import final_result, train
from memgen.training.given import as_it_is

__all__ = [
    "as_it_is",
    "base_for",
    "behavior_table",
    "final_result",
    "gate_checks",
    "tokenizer_for",
    "train",
]


def behavior_table(r: dict) -> pd.DataFrame:
    """Shares of the behaviours on test conflict prompts with their intervals, from `result.json`."""
    n = r["n_conflict"]
    rates = {name: r[f"{name}_rate"] for name in ("memory", "rule", "other")}
    rows = [(name, rate, *wilson(round(rate * n), n), n) for name, rate in rates.items()]
    columns = ["behaviour on conflict prompts", "share", "low", "high", "n"]
    return pd.DataFrame(rows, columns=columns)


def gate_checks(r: dict, gate: dict[str, float]) -> dict[str, bool]:
    """Does the checkpoint pass the gate on test keys, too? By sentence."""
    return {
        f"memory >= {gate['memory']}": r["memory_rate"] >= gate["memory"],
        f"rule >= {gate['rule']}": r["rule_rate"] >= gate["rule"],
        f"other <= {gate['other']}": r["other_rate"] <= gate["other"],
        f"free accuracy >= {gate['free']}": r["free_accuracy"] >= gate["free"],
    }
