"""The gate: does a checkpoint show both behaviours?

The checkpoint with the highest `min(memory, rule) - other` among those that pass is kept.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from memgen.config.training import TrainingParameters
from memgen.models.forced import Expected, behaviors_met
from memgen.models.shown import accuracy, shown
from memgen.tasks import Instance, Task, instances
from memgen.tasks.answers import rates
from memgen.tasks.dataset import free_rows, keyed_rows, spread


def asked(frame: pd.DataFrame, split: str, limit: int) -> dict[str, list[Instance]]:
    """At most `limit` conflict prompts of a split, as many free ones of it, a third of it keyed ones."""
    parts = {
        "conflict": spread(frame[(frame.kind == "conflict") & (frame.split == split)], limit),
        "free": free_rows(frame, split, limit),
        "keyed": keyed_rows(frame, limit // 3),
    }
    return {name: instances(part) for name, part in parts.items()}


class Look:
    """What a training is asked again and again: prompts of validation keys, encoded once.

    Calling it with a model gives what `watch` gives, in one pass or two instead of one per token.
    """

    def __init__(self, tokenizer, frame: pd.DataFrame, limit: int):
        rows = asked(frame, "validation", limit)
        prompts = {name: [r.prompt for r in part] for name, part in rows.items()}
        conflict = rows.pop("conflict")
        self.keys = [r.key for r in conflict]
        self.memory, self.rule = (
            Expected.of(tokenizer, prompts["conflict"], answers)
            for answers in (
                [r.memory_answer for r in conflict],
                [r.rule_answer for r in conflict],
            )
        )
        self.others = {
            name: Expected.of(tokenizer, prompts[name], [r.target for r in part])
            for name, part in rows.items()
        }

    def __call__(self, model) -> dict[str, float]:
        found = _shown(behaviors_met(model, self.memory, self.rule), self.keys)
        met = {f"{n}_accuracy": float(part.met(model).mean()) for n, part in self.others.items()}
        return found | met | {"n_conflict": len(self.keys)}


def watch(
    model, tokenizer, task: Task, frame: pd.DataFrame, split: str, limit: int
) -> dict[str, float]:
    """Behaviour on at most `limit` conflict prompts of a split; accuracy on free and keyed ones.

    The model writes its answers, and what it wrote is compared.
    """
    model.eval()
    rows = asked(frame, split, limit)
    conflict = rows.pop("conflict")
    codes = shown(model, tokenizer, task, conflict)[1]
    right = {
        f"{name}_accuracy": accuracy(model, tokenizer, task, part) for name, part in rows.items()
    }
    found = _shown(codes, [r.key for r in conflict])
    return found | right | {"n_conflict": len(conflict)}


def _shown(codes: np.ndarray, keys: list[str]) -> dict[str, float]:
    by_key = pd.Series(codes).groupby(keys).agg(set)
    return rates(codes) | {"keys_with_both": float(by_key.map(lambda x: {0, 1} <= x).mean())}


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
