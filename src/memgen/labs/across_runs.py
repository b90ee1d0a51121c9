"""Lab 8, of lab 16 over all runs: the seed as one more choice, and the forecast of steering."""

from __future__ import annotations

from typing import Any

import pandas as pd

from memgen.claims.quantities.multiverse import LAB
from memgen.claims.quantities.steering import within_limit
from memgen.config.analyses import SynthesisParameters
from memgen.labs.multiverse import FACTORS
from memgen.stats.forecasts import PREDICTORS, foretold
from memgen.stats.intervals import number
from memgen.stats.specifications import explained
from memgen.store.reader import FinishedRun
from memgen.terms import DIRECTIONS, WHOLE

__all__ = ["curves_over_runs", "forecast_table", "foretold"]
COLUMNS = ["task", "seed", "direction", *PREDICTORS, "success"]


def runs_with(results: dict) -> list[tuple[str, int, dict[str, dict]]]:
    """Task, seed and results by stage of the runs that have lab 16."""
    return [
        (task, seed, stages)
        for task, by_seed in results.items()
        for seed, stages in by_seed.items()
        if seed != WHOLE and LAB in stages
    ]


def curves_over_runs(p: SynthesisParameters, results: dict) -> dict[str, dict[str, dict[str, Any]]]:
    """By task and claim: what the specifications of all its seeds say together; of tasks with several.

    `share`, `positive`: of all of them; `explained`: by each choice, with `seed` as one more.
    """
    tables: dict[str, list[pd.DataFrame]] = {}
    for task, seed, _ in runs_with(results):
        table = FinishedRun.of(p, task, seed)[LAB].table("specifications")
        tables.setdefault(task, []).append(table.assign(seed=str(seed)))
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for task, parts in tables.items():
        if len(parts) == 1:
            continue  # one seed is no choice
        whole = pd.concat(parts, ignore_index=True)
        whole = whole[whole.effect.notna()]
        for claim, factors in FACTORS.items():
            rows = whole[whole.claim == claim]
            found.setdefault(task, {})[claim] = {
                "n": len(rows),
                "n_seeds": len(parts),
                "positive": number((rows.effect > 0).mean()) if len(rows) else None,
                "share": number((rows.low > 0).mean()) if len(rows) else None,
                "explained": explained(rows, [*factors, "seed"]),
            }
    return found


def forecast_table(results: dict) -> pd.DataFrame:
    """A row per run and direction: what its train pairs say, and success within the limit on test keys."""
    rows = [
        {
            "task": task,
            "seed": seed,
            "direction": direction,
            **{name: stages[LAB]["forecast"][name] for name in PREDICTORS},
            "success": within_limit(
                stages, direction, stages["06_intervention"][direction]["success"]
            ),
        }
        for task, seed, stages in runs_with(results)
        if "06_intervention" in stages
        for direction in DIRECTIONS
    ]
    return pd.DataFrame(rows, columns=COLUMNS)
