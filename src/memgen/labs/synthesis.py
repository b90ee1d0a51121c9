"""Lab 8: all tasks and seeds side by side, and the main finding; verdicts are `claims.ledger`'s."""

from __future__ import annotations

import numpy as np
import pandas as pd

from memgen.claims.beside import beside_controls
from memgen.claims.catalogue import GROUPS
from memgen.claims.evidence import Evidence, read_evidence
from memgen.claims.ledger import judge_all, verdict_on
from memgen.claims.quantities.overview import main_numbers
from memgen.claims.quantities.steering import (
    STEERED,
    is_kept,
    kept_seeds,
    success,
    within_limit,
)
from memgen.claims.success import AHEAD, FORBID, row_of, success_table
from memgen.stats.coverage import Design, coverage
from memgen.stats.intervals import number
from memgen.terms import BEST_OF_RANDOM, DIRECTIONS, WHOLE

#: for the notebook; as this module imports them, a change of a claim makes the lab stale
__all__ = [
    "GROUPS",
    "beside_controls",
    "judge_all",
    "main_numbers",
    "read_evidence",
    "success_table",
]
#: the task of the headline, if it is in the study: its answers look alike, and it needs no prompt
#: that teaches a key both behaviours. Its counterpart is where the format does most.
FIRST, COUNTERPART = "inference", "arithmetic-tagged"


def overview(results: dict) -> pd.DataFrame:
    """A row per task and seed: test gate, AUCs, both ways beside two controls, or nan.

    `m2g`, `g2m`: success within the limit on lost free prompts, 0 where no cell stays within it;
    `_max`: of the cell that turns most, whatever it costs, and `_max_free` the free prompts that are
    then answered right. A run of which a lab was left out has no row.
    """
    rows = []
    for task, by_seed in results.items():
        for seed, stages in by_seed.items():
            if seed == WHOLE or "06_intervention" not in stages:
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
                "chosen_baseline_auc": _or_nan(prediction["chosen_baseline_auc"]),
            }
            for direction in DIRECTIONS:
                found = stages["06_intervention"][direction]
                row |= {
                    f"{direction}": within_limit(stages, direction, found["success"]),
                    f"{direction}_kept": is_kept(stages, direction),
                    f"{direction}_max": found["max"]["success"],
                    f"{direction}_max_free": found["max"]["free_accuracy_after"],
                    f"{direction}_n": found["n"],
                    f"{direction}_alpha": found["alpha"],
                    f"{direction}_top_n": found["top_n"],
                }
                random = found["controls"].get(BEST_OF_RANDOM)
                row[f"{direction}_{BEST_OF_RANDOM}"] = within_limit(
                    stages, direction, _or_nan(random)
                )
                forbidden = found["output_controls"][FORBID]["success"]
                row[f"{direction}_{FORBID}"] = _or_nan(forbidden)
            rows.append(row)
    return pd.DataFrame(rows)


def mean_auc(table: pd.DataFrame) -> pd.DataFrame:
    """AUCs by task, mean of the seeds: of the best layer's `probe`, and of what it has to beat.

    `without`: the strongest forecast without this model's states, as chosen on train keys. `table`:
    `overview`.
    """
    by_task = table.groupby("task", sort=False)
    return pd.DataFrame(
        {"probe": by_task.auc.mean(), "without": by_task.chosen_baseline_auc.mean()}
    )


def headline(evidence: Evidence, table: pd.DataFrame, claims: list[dict]) -> tuple[str, dict]:
    """The finding in one paragraph and its number, built from numbers alone.

    `table`: `success_table`; `claims`: as judged. The task, its counterpart and the direction are
    fixed beforehand.
    """
    auc = mean_auc(overview(evidence.results))
    first = FIRST if FIRST in auc.index else auc.index[0]
    effect = success(evidence, first, "m2g")
    found = {
        "task": first,
        "direction": "m2g",
        "rate": number(effect.value),
        "low": number(effect.low),
        "high": number(effect.high),
        "n": effect.n,
        "n_seeds": effect.n_seeds,
        "n_kept": kept_seeds(evidence, first, "m2g"),
        "auc": number(auc.probe[first]),
        "auc_without": number(auc.without[first]),
        "ahead": verdict_on(claims, AHEAD, first),
        "controls": {kind: _rate(table, first, kind) for kind in (BEST_OF_RANDOM, FORBID)},
    }
    text = (
        f"On {first}, shifting hidden coordinates turns {_said(found['rate'])} of the answers that"
        f" came from memory into the rule's answer (best of many random directions:"
        f" {_said(found['controls'][BEST_OF_RANDOM])}; the memory's first token forbidden and nothing"
        f" shifted: {_said(found['controls'][FORBID])}). That is within a limit on lost free prompts,"
        f" which {found['n_kept']} of {found['n_seeds']} models can keep (any other counts as turning"
        " none). Before the answer begins, a probe ranks the prompts by which of the two will come"
        f" ({_read(found)})."
    )
    if COUNTERPART in auc.index and COUNTERPART != first:
        rates = [_rate(table, COUNTERPART, kind) for kind in ("steered", FORBID)]
        found["counterpart"] = {"task": COUNTERPART, "rate": rates[0], FORBID: rates[1]}
        text += (
            f" On {COUNTERPART}, where memory answers begin with a mark of their own, the shift"
            f" turns {_said(rates[0])}, and forbidding that mark alone {_said(rates[1])}."
        )
    return text, found


def _rate(table: pd.DataFrame, task: str, kind: str) -> float | None:
    row = row_of(table, task, "m2g", kind)
    return None if row is None else number(row.rate)


def _read(found: dict) -> str:
    """The probe's AUC with what it has to beat, and whether it does by the ledger."""
    if found["auc_without"] is None:
        return f"AUC {found['auc']:.2f}; no forecast without this model's states to hold it against"
    return (
        f"AUC {found['auc']:.2f}; the strongest forecast without this model's states"
        f" {found['auc_without']:.2f}; that it is ahead is, by the ledger, {found['ahead']}"
    )


def _said(rate: float | None) -> str:
    return "an undefined share" if rate is None else f"{rate:.0%}"


def simulated_coverage(evidence: Evidence, n_studies: int) -> list[dict]:
    """`coverage` of the intervals at each task's own numbers of seeds, test keys and prompts a key.

    Each quantity has the numbers of the table that the ledger computes it from.
    """
    found, known = [], {}
    for task in evidence.tasks:
        asked = tuple(designs(evidence, task).items())
        known[asked] = known.get(asked) or coverage(dict(asked), n_studies)
        found += [{"task": task, **row} for row in known[asked]]
    return found


def designs(evidence: Evidence, task: str) -> dict[str, Design]:
    """By quantity (`coverage.QUANTITIES`), where there are two seeds at least."""
    steered = evidence.outcomes[
        (evidence.outcomes.kind == STEERED) & (evidence.outcomes.direction == "m2g")
    ]
    answers, scores = evidence.behaviors, evidence.scores.assign(n=1)
    tables = {
        "rate": answers,
        "difference of rates": steered,
        "smallest distance": answers,
        "AUC": scores,
        "gain in AUC": scores,
    }
    found = {}
    for name, table in tables.items():
        by_key = table[table.task == task].groupby(["seed", "key"]).n.sum()
        n_seeds = by_key.index.get_level_values("seed").nunique()
        if n_seeds > 1:
            n_keys, n_prompts = round(len(by_key) / n_seeds), round(by_key.mean())
            found[name] = Design(n_seeds, n_keys, n_prompts, evidence.shared_keys)
    return found


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
