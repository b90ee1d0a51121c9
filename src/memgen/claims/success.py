"""Success of steering over the seeds, beside all that it is held against: what figures and pages show.

Nothing is decided by these rates; verdicts are the ledger's. The intervals are the ledger's, too.
"""

from __future__ import annotations

import pandas as pd

from memgen.claims.evidence import Evidence
from memgen.claims.quantities.rows import level
from memgen.claims.quantities.steering import STEERED
from memgen.terms import BEST_OF_RANDOM, DIRECTION_WORDS

FORBID = (
    "forbid_source"  # set beside steering in figures: the output with a token forbidden, unsteered
)


def success_table(evidence: Evidence) -> pd.DataFrame:
    """By task, direction and kind: `rate` (mean of seeds), `low`, `high`, `n`, `n_keys`, `n_seeds`.

    `kind`: steered, every control, both kinds of rephrasing. `n` counts prompts times draws.
    """
    # `steered_max` is the cell of greatest success, whatever it costs: chapter 6 shows it
    outcomes, rows = evidence.outcomes[evidence.outcomes.kind != "steered_max"], []
    for (task, direction, kind), part in outcomes.groupby(
        ["task", "direction", "kind"], sort=False
    ):
        found = level(evidence, part.reset_index(drop=True), (kind,))
        rows.append(
            {
                "task": task,
                "direction": direction,
                "kind": kind,
                "rate": found.value,
                "low": found.low,
                "high": found.high,
                "n": found.n,
                "n_keys": found.n_keys,
                "n_seeds": found.n_seeds,
            }
        )
    return pd.DataFrame(rows)


def row_of(table: pd.DataFrame, task: str, direction: str, kind: str = STEERED) -> pd.Series | None:
    """One row of `success_table`; None where the run has none."""
    chosen = (table.task == task) & (table.direction == direction) & (table.kind == kind)
    return table[chosen].iloc[0] if chosen.any() else None


def describe(table: pd.DataFrame, auc: pd.Series) -> str:
    """The study in words: success, best random direction and one forbidden token, AUC by task."""
    parts = []
    for task in dict.fromkeys(table.task):
        said = []
        for direction, name in DIRECTION_WORDS.items():
            beside = [
                f"{words} {row.rate:.0%}"
                for kind, words in (
                    (BEST_OF_RANDOM, "best random direction"),
                    (FORBID, "one token forbidden"),
                )
                if (row := row_of(table, task, direction, kind)) is not None
            ]
            rate = row_of(table, task, direction).rate
            said.append(f"{name} {rate:.0%} ({', '.join(beside)})")
        parts.append(f"{task}: {', '.join(said)}, AUC {auc[task]:.2f}")
    return (
        "Bars: steering success on test keys by task and direction, beside the best of many random"
        " directions and the output with one token forbidden, and the AUC of the best probe. "
        + "; ".join(parts)
        + "."
    )
