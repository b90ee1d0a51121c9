"""Success of steering over the seeds, beside all that it is held against: what figures and pages show.

It is success within the limit on lost free prompts (`evidence.outcomes_by_key`). Nothing is
decided by these rates; verdicts are the ledger's. The intervals are the ledger's, too.
"""

from __future__ import annotations

import pandas as pd

from memgen.claims.evidence import Evidence
from memgen.claims.quantities.rows import level
from memgen.claims.quantities.steering import STEERED, kept_seeds
from memgen.terms import BEST_OF_RANDOM, DIRECTION_WORDS

#: the claim that a probe is ahead of all that needs none of the model's states
AHEAD = "beyond_words"
FORBID = (
    "forbid_source"  # set beside steering in figures: the output with a token forbidden, unsteered
)


def success_table(evidence: Evidence) -> pd.DataFrame:
    """By task, direction and kind: `rate` (mean of seeds), `low`, `high`, `n`, `n_keys`, `n_seeds`.

    `kind`: steered, every control, both kinds of rephrasing. `n` counts prompts times draws.
    `n_kept`: seeds with a cell within the limit on lost free prompts; the others count as turning none.
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
                "n_kept": kept_seeds(evidence, task, direction),
            }
        )
    return pd.DataFrame(rows)


def row_of(table: pd.DataFrame, task: str, direction: str, kind: str = STEERED) -> pd.Series | None:
    """One row of `success_table`; None where the run has none."""
    chosen = (table.task == task) & (table.direction == direction) & (table.kind == kind)
    return table[chosen].iloc[0] if chosen.any() else None


def without_kept(table: pd.DataFrame) -> str:
    """Where not every seed has a cell within the limit, and how many have: `inference, ...: 2 of 3`."""
    rows = table[(table.kind == STEERED) & (table.n_kept < table.n_seeds)]
    return "; ".join(
        f"{row.task}, {DIRECTION_WORDS[row.direction]}: {row.n_kept} of {row.n_seeds}"
        for row in rows.itertuples()
    )


def describe(table: pd.DataFrame, auc: pd.DataFrame) -> str:
    """The study in words: success, best random direction and one forbidden token, AUCs by task.

    `auc`: by task `probe` and `without`, the strongest forecast that sees no state of the model.
    """
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
        parts.append(f"{task}: {', '.join(said)}, {aucs(auc, task)}")
    few = without_kept(table)
    return (
        "Bars: steering success on test keys by task and direction, beside the best of many random"
        " directions and the output with one token forbidden, and the AUC of the best probe beside that"
        " of the strongest forecast without this model's states. "
        + "; ".join(parts)
        + "."
        + (f" Seeds with a strength within the limit on lost free prompts: {few}." if few else "")
    )


def aucs(auc: pd.DataFrame, task: str) -> str:
    """`AUC 0.92, without states 0.84`; `auc` as in `describe`."""
    without = auc.without[task]
    return f"AUC {auc.probe[task]:.2f}, without states " + (
        "none" if pd.isna(without) else f"{without:.2f}"
    )
