"""Synthesis: what the runs of all tasks and seeds say: overview, headline, and what the ledger of
claims is computed from.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from memgen.stats.intervals import pooled
from memgen.steering.controls import CONTROLS
from memgen.terms import DIRECTION_WORDS


def overview(results: dict) -> pd.DataFrame:
    """One row a task and seed: the gate on test keys, best AUC, and both directions with their
    strongest control.
    """
    rows = []
    for task, by_seed in results.items():
        for seed, stages in by_seed.items():
            if seed == "all":
                continue
            training, prediction = stages["02_training"], stages["05_prediction"]
            number = lambda value: (
                np.nan if value is None else value
            )  # undefined where only one behaviour occurred
            row = {
                "task": task,
                "seed": seed,
                "memory": training["memory_rate"],
                "rule": training["rule_rate"],
                "other": training["other_rate"],
                "free": training["free_accuracy"],
                "auc": number(prediction["best_auc"]),
                "auc_low": number(prediction["best_auc_interval"][0]),
                "auc_layer": prediction["best_layer"],
                "prompt_only_auc": number(prediction["prompt_only_auc"]),
            }
            for direction in DIRECTION_WORDS:
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


def pooled_steering(results: dict) -> pd.DataFrame:
    """One row a task and direction, prompts pooled over seeds: success and every control, each with
    n and Wilson interval.
    """
    rows = []
    for task, by_seed in results.items():
        for direction in DIRECTION_WORDS:
            found = [
                stages["06_intervention"][direction]
                for seed, stages in by_seed.items()
                if seed != "all"
            ]
            rows.append(
                {
                    "task": task,
                    "direction": direction,
                    "kind": "steered",
                    **_pool([(f["success"], f["n"]) for f in found]),
                }
            )
            for name in CONTROLS:
                present = [
                    (f["controls"][name], f["control_n"][name])
                    for f in found
                    if name in f["controls"]
                ]
                if present:
                    rows.append(
                        {"task": task, "direction": direction, "kind": name, **_pool(present)}
                    )
            rows.append(
                {
                    "task": task,
                    "direction": direction,
                    "kind": "rephrasing",
                    **_pool([(f["rephrase_floor"], f["rephrase_n"]) for f in found]),
                }
            )
    return pd.DataFrame(rows)


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


def describe(steering: pd.DataFrame, auc: pd.Series) -> str:
    """The main figure in words."""
    parts = []
    for task, rows in steering.groupby("task", sort=False):
        said = []
        for direction, name in DIRECTION_WORDS.items():
            one = rows[rows.direction == direction].set_index("kind").rate
            said.append(
                f"{name} {one['steered']:.0%} (strongest control"
                f" {one.drop(['steered', 'rephrasing']).max():.0%})"
            )
        parts.append(f"{task}: {', '.join(said)}, AUC {auc[task]:.2f}")
    return (
        "Bars: steering success on test keys by task and direction, beside the strongest control,"
        " and the AUC of the best probe. " + "; ".join(parts) + "."
    )


def headline(results: dict) -> tuple[str, dict]:
    """The finding in one paragraph and its number, built from the numbers alone."""
    steering = pooled_steering(results)
    auc = overview(results).groupby("task", sort=False).auc.mean()
    first = "arithmetic-tagged" if "arithmetic-tagged" in results else next(iter(results))
    rows = steering[(steering.task == first) & (steering.direction == "m2g")].set_index("kind")
    controls = rows.loc[[k for k in rows.index if k not in ("steered", "rephrasing")]]
    number = {
        "task": first,
        "direction": "m2g",
        **{k: rows.loc["steered", k] for k in ("rate", "low", "high", "n")},
        "control": float(controls.rate.max()),
        "control_name": str(controls.rate.idxmax()),
    }
    text = (
        f"On {first}, shifting a few hidden coordinates turns {number['rate']:.0%} of the answers"
        " that came from memory into the rule's answer (strongest control:"
        f" {number['control']:.0%}), and a probe tells which of the two will come before the first"
        f" answer token (AUC {auc[first]:.2f})."
    )
    twin = first.replace("tagged", "matched")
    if twin != first and twin in results:
        other = steering[
            (steering.task == twin) & (steering.direction == "m2g") & (steering.kind == "steered")
        ].iloc[0]
        rest = steering[
            (steering.task == twin) & (steering.direction == "m2g") & steering.kind.isin(CONTROLS)
        ]
        text += (
            f" Where both answers are written alike ({twin}) it is {other.rate:.0%} (strongest"
            f" control {rest.rate.max():.0%}), AUC {auc[twin]:.2f}"
            + (
                ": much of the effect is the format of the answer."
                if number["low"] > other.high
                else "."
            )
        )
    return text, {k: v.item() if hasattr(v, "item") else v for k, v in number.items()}
