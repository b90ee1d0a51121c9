"""Lab 8: all tasks and seeds side by side, and the main finding; verdicts are `claims.ledger`'s."""

from __future__ import annotations

import numpy as np
import pandas as pd

from memgen.claims.evidence import Evidence
from memgen.claims.ledger import verdict_on
from memgen.claims.pooled import pooled_steering, steered, strongest
from memgen.tasks.families import families, variants
from memgen.terms import DIRECTIONS, SUPPORTED, WHOLE

FIRST = "arithmetic-tagged"  # the task of the headline, if it is in the study


def overview(results: dict) -> pd.DataFrame:
    """A row per task and seed: test gate, best AUC, both ways and the strongest control, or nan."""
    rows = []
    for task, by_seed in results.items():
        for seed, stages in by_seed.items():
            if seed == WHOLE:
                continue
            training, prediction = stages["02_training"], stages["05_prediction"]
            row = {
                "task": task,
                "seed": seed,
                "memory": training["memory_rate"],
                "rule": training["rule_rate"],
                "other": training["other_rate"],
                "free": training["free_accuracy"],
                "auc": _or_nan(prediction["best_auc"]),
                "auc_low": _or_nan(prediction["best_auc_interval"][0]),
                "auc_layer": prediction["best_layer"],
                "prompt_only_auc": _or_nan(prediction["prompt_only_auc"]),
            }
            for direction in DIRECTIONS:
                found = stages["06_intervention"][direction]
                control = max(found["controls"], key=lambda name: found["controls"][name])
                row |= {
                    f"{direction}": found["success"],
                    f"{direction}_n": found["n"],
                    f"{direction}_alpha": found["alpha"],
                    f"{direction}_top_n": found["top_n"],
                    f"{direction}_control": found["controls"][control],
                    f"{direction}_control_name": control,
                    f"{direction}_floor": found["rephrase_floor"],
                }
            rows.append(row)
    return pd.DataFrame(rows)


def mean_auc(table: pd.DataFrame) -> pd.Series:
    """AUC of the best layer's probe by task, mean of the seeds. `table`: `overview`."""
    return table.groupby("task", sort=False).auc.mean()


def headline(evidence: Evidence, claims: list[dict]) -> tuple[str, dict]:
    """The finding in one paragraph and its number, built from numbers and verdicts alone.

    `claims`: `ledger.judge_all` of the evidence; whether the format matters is its claim *format*.
    """
    steering, auc = pooled_steering(evidence.results), mean_auc(overview(evidence.results))
    first = FIRST if FIRST in evidence.tasks else evidence.tasks[0]
    success = steered(steering, first, "m2g")
    control = strongest(steering, first, "m2g")
    number = {
        "task": first,
        "direction": "m2g",
        **{name: success[name] for name in ("rate", "low", "high", "n")},
        "control": float(control.rate),
        "control_name": str(control.kind),
    }
    text = (
        f"On {first}, shifting a few hidden coordinates turns {success.rate:.0%} of the answers"
        " that came from memory into the rule's answer (strongest control:"
        f" {control.rate:.0%}), and a probe tells which of the two will come before the first"
        f" answer token (AUC {auc[first]:.2f})."
    )
    for family in families(evidence.tasks):
        tagged, twin = variants(family)
        if tagged == first:
            helps = verdict_on(claims, "format", family) == SUPPORTED
            text += (
                f" Where both answers are written alike ({twin}) it is"
                f" {steered(steering, twin, 'm2g').rate:.0%} (strongest control"
                f" {strongest(steering, twin, 'm2g').rate:.0%}), AUC {auc[twin]:.2f}"
                + (": much of the effect is the format of the answer." if helps else ".")
            )
    return text, {k: v.item() if hasattr(v, "item") else v for k, v in number.items()}


def numbers_table(over_keys: dict[str, dict[str, dict]]) -> pd.DataFrame:
    """`quantities.main_numbers` as a table, one row per task and quantity."""
    return pd.DataFrame(
        [
            {"task": task, "quantity": name, **found}
            for task, by_name in over_keys.items()
            for name, found in by_name.items()
        ]
    )


def claims_table(claims: list[dict]) -> pd.DataFrame:
    """The judged claims to read: one row each."""
    columns = {
        "text": "claim",
        "source": "source",
        "test": "test",
        "verdict": "verdict",
        "evidence": "effect and interval by task",
    }
    return pd.DataFrame([[c[name] for name in columns] for c in claims], columns=columns.values())


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value
