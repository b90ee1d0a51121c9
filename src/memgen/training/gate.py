"""The gate: does a checkpoint show both behaviours?

The checkpoint with the highest `min(memory, rule) - other` among those that pass is kept.
"""

from __future__ import annotations

import pandas as pd

from memgen.config.training import TrainingParameters
from memgen.models.generate import answer
from memgen.tasks import Task, instances
from memgen.tasks.answers import accuracy, behaviors, rates
from memgen.tasks.dataset import free_rows, keyed_rows, spread


def watch(
    model, tokenizer, task: Task, frame: pd.DataFrame, split: str, limit: int = 300
) -> dict[str, float]:
    """Behaviour on at most `limit` conflict prompts of a split; accuracy on free and keyed ones."""
    model.eval()
    conflict = instances(spread(frame[(frame.kind == "conflict") & (frame.split == split)], limit))
    codes = behaviors(
        task,
        conflict,
        answer(model, tokenizer, [r.prompt for r in conflict], task.max_answer_tokens),
    )
    by_key = pd.Series(codes).groupby([r.key for r in conflict]).agg(set)
    found = rates(codes) | {
        "keys_with_both": float(by_key.map(lambda shown: {0, 1} <= shown).mean())
    }
    parts = {
        "free": free_rows(frame, split, limit),
        "keyed": keyed_rows(frame, limit // 3),
    }
    for name, part in parts.items():
        rows = instances(part)
        found[f"{name}_accuracy"] = accuracy(
            rows, answer(model, tokenizer, [r.prompt for r in rows], task.max_answer_tokens)
        )
    found["n_conflict"] = len(conflict)
    return found


def score(found: dict[str, float]) -> float:
    """What the checkpoint rule maximises: min(memory, rule) - other."""
    return min(found["memory_rate"], found["rule_rate"]) - found["other_rate"]


def passes_gate(found: dict[str, float], p: TrainingParameters) -> bool:
    return (
        found["memory_rate"] >= p.gate_memory
        and found["rule_rate"] >= p.gate_rule
        and found["other_rate"] <= p.gate_other
        and found["free_accuracy"] >= p.gate_free
        and found["keyed_accuracy"] >= p.gate_keyed
    )
