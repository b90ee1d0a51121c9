"""Does one model show both behaviours?"""

from __future__ import annotations

import numpy as np

from memgen.claims.evidence import Evidence
from memgen.claims.quantities.rows import of
from memgen.stats.over_seeds import Effect, over_keys, rate

GATE = {
    "memory_rate": (0.25, 1.0),
    "rule_rate": (0.25, 1.0),
    "other_rate": (0.0, 0.20),
    "free_accuracy": (0.90, 1.0),
}


def in_gate(training: dict) -> bool:
    """Does a model show both behaviours on test keys? `training`: the result of lab 02."""
    return all(low <= training[name] <= high for name, (low, high) in GATE.items())


def slack(evidence: Evidence, task: str) -> Effect:
    """By how much the gate is passed: the smallest distance of its four rates from their limits."""
    rows = of(evidence.behaviors, task)
    free = {
        seed: stages["02_training"]["free_accuracy"] - GATE["free_accuracy"][0]
        for seed, stages in evidence.of_seeds(task)
    }
    of_free = rows.seed.map(free).to_numpy()

    def statistic(w: np.ndarray) -> np.ndarray:
        memory, rule = (rate(w, rows[name], rows.n) for name in ("memory", "rule"))
        return np.min(
            [
                memory - GATE["memory_rate"][0],
                rule - GATE["rule_rate"][0],
                GATE["other_rate"][1] - (1 - memory - rule),
                w @ of_free / w.sum(1),
            ],
            axis=0,
        )

    return over_keys(
        statistic,
        rows.seed.to_numpy(),
        rows.key.to_numpy(),
        int(rows.n.sum()),
        shared_keys=evidence.shared_keys,
    )


def share(evidence: Evidence, task: str, behavior: str) -> Effect:
    """Share of the conflict prompts answered so. `behavior`: memory or rule."""
    rows = of(evidence.behaviors, task)
    return over_keys(
        lambda w: rate(w, rows[behavior], rows.n),
        rows.seed.to_numpy(),
        rows.key.to_numpy(),
        int(rows.n.sum()),
        shared_keys=evidence.shared_keys,
    )


def untaught(evidence: Evidence) -> list[str]:
    """Tasks whose test keys were never trained with the rule's answer."""
    return [task for task in evidence.tasks if evidence.contrast_on(task) != "keys"]


def taught(evidence: Evidence) -> list[str]:
    """Tasks whose keys, those of the test split too, were trained with the rule's answer somewhere."""
    return [task for task in evidence.tasks if evidence.contrast_on(task) == "keys"]
