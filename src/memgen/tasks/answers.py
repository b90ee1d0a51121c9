"""What a model answers, and which behaviour that is."""

from __future__ import annotations

import numpy as np

from memgen.tasks import Instance, Task
from memgen.terms import CODE


def behaviors(task: Task, rows: list[Instance], answers: list[str]) -> np.ndarray:
    """The behaviour code (0 memorization, 1 generalization, 2 other) of each answer, int8 `[n]`."""
    return np.array(
        [CODE[task.classify(row, text)] for row, text in zip(rows, answers, strict=True)],
        dtype=np.int8,
    )


def rates(codes: np.ndarray) -> dict[str, float]:
    """Shares of the three behaviours: `memory_rate`, `rule_rate`, `other_rate`."""
    shares = np.bincount(codes, minlength=3) / max(1, len(codes))
    return dict(zip(("memory_rate", "rule_rate", "other_rate"), map(float, shares)))


def accuracy(rows: list[Instance], answers: list[str]) -> float:
    """Share of answers that equal what the instance was (or would be) trained on."""
    return float(
        np.mean(
            [text.strip() == row.target.strip() for row, text in zip(rows, answers, strict=True)]
        )
    )
