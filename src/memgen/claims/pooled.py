"""Success of steering pooled over the seeds, beside its controls: what figures and pages show.

Nothing is decided by these rates and their Wilson intervals, which take prompts as independent;
verdicts are the ledger's.
"""

from __future__ import annotations

import pandas as pd

from memgen.stats.intervals import pooled
from memgen.terms import DIRECTION_WORDS, WHOLE

STEERED, REPHRASING = "steered", "rephrasing"


def pooled_steering(results: dict) -> pd.DataFrame:
    """Steering by task, direction and kind, pooled over seeds: `rate`, `n`, Wilson's `low`, `high`.

    `worst`, `best`: by seed. `kind`: steered, controls, rephrasing. `results[task][seed][stage]`.
    """
    rows = []
    for task, by_seed in results.items():
        for direction in DIRECTION_WORDS:
            found = [
                stages["06_intervention"][direction]
                for seed, stages in by_seed.items()
                if seed != WHOLE
            ]
            rates = {STEERED: [(f["success"], f["n"]) for f in found]}
            for name in dict.fromkeys(name for f in found for name in f["controls"]):
                rates[name] = [
                    (f["controls"][name], f["control_n"][name])
                    for f in found
                    if name in f["controls"]
                ]
            rates[REPHRASING] = [(f["rephrase_floor"], f["rephrase_n"]) for f in found]
            rows += [
                {"task": task, "direction": direction, "kind": kind, **_pool(of_kind)}
                for kind, of_kind in rates.items()
            ]
    return pd.DataFrame(rows)


def strongest(steering: pd.DataFrame, task: str, direction: str) -> pd.Series:
    """The highest control's row in `pooled_steering`, rephrasing apart; of equals the first."""
    controls = steering[
        (steering.task == task)
        & (steering.direction == direction)
        & ~steering.kind.isin([STEERED, REPHRASING])
    ]
    return controls.loc[controls.rate.idxmax()]


def steered(steering: pd.DataFrame, task: str, direction: str) -> pd.Series:
    """The row of steering itself."""
    rows = steering[(steering.task == task) & (steering.direction == direction)]
    return rows[rows.kind == STEERED].iloc[0]


def describe(steering: pd.DataFrame, auc: pd.Series) -> str:
    """The study in words: success and strongest control of every task, and the AUC of its probe."""
    parts = []
    for task in dict.fromkeys(steering.task):
        said = [
            f"{name} {steered(steering, task, direction).rate:.0%} (strongest control"
            f" {strongest(steering, task, direction).rate:.0%})"
            for direction, name in DIRECTION_WORDS.items()
        ]
        parts.append(f"{task}: {', '.join(said)}, AUC {auc[task]:.2f}")
    return (
        "Bars: steering success on test keys by task and direction, beside the strongest control,"
        " and the AUC of the best probe. " + "; ".join(parts) + "."
    )


def _pool(rates: list[tuple[float, int]]) -> dict:
    found = pooled(rates)
    return {
        "rate": found["success"],
        "n": found["n"],
        "low": found["low"],
        "high": found["high"],
        "worst": min(r for r, _ in rates),
        "best": max(r for r, _ in rates),
    }
