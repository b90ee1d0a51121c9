"""Every task beside its strongest control: what the first figure of a chapter shows.

The control is the one that comes nearest to what it is held against, or passes it, whatever it
is; the gain over it, with interval and verdict, is that of the claim named beside it.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from memgen.claims.evidence import Evidence
from memgen.claims.quantities.rows import level, of
from memgen.claims.quantities.steering import CONTROL_FAMILIES, success
from memgen.terms import DIRECTIONS

COLUMNS = ["about", "direction", "task", "value", "control", "control_name", "claim"]
MAPS, STEERING, RETRAINS = "maps", "steering", "retrains"
FAMILY_NAME = {
    "random": "random shifts",
    "best_of_random": "best random direction",
    "other_neurons": "other neurons",
    "other_values": "same neurons, other values",
    "shuffled": "shuffled labels",
    "forbid": "one token forbidden",
    "unembedding": "output direction added",
    "rephrasing": "words reordered",
}


def beside_controls(evidence: Evidence) -> pd.DataFrame:
    """`COLUMNS`: a row per task (steering: and direction); nan and '' where there is nothing.

    Shares on test keys (maps: of neurons, on pairs of train keys), means of the seeds. `claim`: the
    id of the claim whose effect is the value less this control.
    """
    rows = []
    for task in evidence.tasks:
        rows.append((MAPS, "", task, *_maps(evidence, task)))
        for direction in DIRECTIONS:
            rows.append((STEERING, direction, task, *_steering(evidence, task, direction)))
        rows.append((RETRAINS, "", task, *_retrains(evidence, task)))
    return pd.DataFrame(rows, columns=COLUMNS)


def _strongest(controls: dict[str, float], names: dict[str, str]) -> tuple[float, str, str]:
    """Value, name and claim of the largest control; `names`: what a claim's control is called."""
    there = {claim: value for claim, value in controls.items() if not np.isnan(value)}
    if not there:
        return np.nan, "", ""
    claim = max(there, key=lambda one: there[one])
    return there[claim], names[claim], claim


def _maps(evidence: Evidence, task: str) -> tuple[float, float, str, str]:
    """Share of significant neurons; of pairs of one behaviour, and of the same pairs in the base."""
    names = {"differ": "pairs of one behaviour", "differ_base": "the same pairs in the base"}
    found = evidence.stage(task, "04_differentiation")
    value = _mean([one["significant_share"] for one in found])
    bases = [one["base_null"] for one in found if one["base_null"]]
    controls = {
        "differ": _mean([one["null_significant_share"] for one in found]),
        "differ_base": _mean([one["significant_share"] for one in bases]),
    }
    return value, *_strongest(controls, names)


def _mean(by_layer: list[list[float] | None]) -> float:
    """Mean of the seeds that have it, each the mean of its layers."""
    means = [np.mean(one) for one in by_layer if one is not None]
    return float(np.mean(means)) if means else np.nan


def _steering(evidence: Evidence, task: str, direction: str) -> tuple[float, float, str, str]:
    """Success within the limit; of the families of controls, each the mean of its members."""
    rows = of(evidence.outcomes, task)
    rows = rows[rows.direction == direction]
    ids = {family: f"steer_{direction}.{family}" for family in CONTROL_FAMILIES}
    controls = {
        ids[family]: level(evidence, rows, members).value
        for family, members in CONTROL_FAMILIES.items()
    }
    names = {ids[family]: name for family, name in FAMILY_NAME.items()}
    return success(evidence, task, direction).value, *_strongest(controls, names)


def _retrains(evidence: Evidence, task: str) -> tuple[float, float, str, str]:
    """Success of another model's neurons, one base, both directions; random ones are the control."""
    rows = evidence.transfers
    if not rows.empty:
        rows = rows[(rows.task == task) & (rows.kind == "retrain") & rows.shared & ~rows.own]
    if rows.empty:
        return np.nan, np.nan, "", ""
    sums = rows.groupby(["seed", "direction"])[["wins", "n", "control_wins", "control_n"]].sum()
    by_seed = pd.DataFrame(
        {"value": sums.wins / sums.n, "control": sums.control_wins / sums.control_n}
    )
    found = by_seed.groupby("seed").mean().mean()
    return float(found.value), float(found.control), "random neurons", "retrain"
