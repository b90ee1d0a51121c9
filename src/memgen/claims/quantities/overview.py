"""The study's main numbers over seeds and keys."""

from __future__ import annotations

from memgen.claims.evidence import Evidence
from memgen.claims.quantities.behaviors import share
from memgen.claims.quantities.prediction import auc
from memgen.claims.quantities.steering import success
from memgen.stats.intervals import number
from memgen.stats.over_seeds import of_a_share
from memgen.terms import DIRECTIONS


def main_numbers(evidence: Evidence) -> dict[str, dict[str, dict]]:
    """By task and quantity: value, interval over seeds, and what they rest on."""
    found = {}
    for task in evidence.tasks:
        effects = {name: share(evidence, task, name) for name in ("memory", "rule")}
        effects["auc"] = auc(evidence, task)
        effects |= {direction: success(evidence, task, direction) for direction in DIRECTIONS}
        effects = {name: of_a_share(effect) for name, effect in effects.items()}
        found[task] = {
            name: {
                "value": number(e.value),
                "low": number(e.low),
                "high": number(e.high),
                "n": e.n,
                "n_keys": e.n_keys,
                "n_seeds": e.n_seeds,
            }
            for name, e in effects.items()
        }
    return found
