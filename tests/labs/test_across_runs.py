"""Lab 16 over all runs: a planted seed that decides is named, and a planted order of tasks is foretold."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from computing import write_stage
from memgen.claims.quantities.multiverse import LAB
from memgen.figures import synthesis as figures
from memgen.labs.across_runs import curves_over_runs, forecast_table, foretold
from memgen.labs.multiverse import FACTORS
from memgen.presets import stage_parameters
from memgen.store.artifacts import Result
from memgen.terms import DIRECTIONS
from planted_board import multiverse

TASKS = ["arithmetic-tagged", "arithmetic-matched", "cipher-tagged", "cipher-matched", "inference"]


def stages(cosine: float, success: float, kept: bool = True) -> dict:
    direction = {"success": success, "kept_exists": kept}
    return {LAB: multiverse(cosine=cosine), "06_intervention": dict.fromkeys(DIRECTIONS, direction)}


def in_order(turn: int = 1) -> dict:
    """Five tasks of two seeds; agreement rises with success, or falls."""
    return {
        task: {seed: stages(turn * (k + seed / 10), 0.1 + k / 10) for seed in (0, 1)}
        for k, task in enumerate(TASKS)
    }


def specifications(size: float) -> pd.DataFrame:
    """Eight rows a claim; the effect is `size` and nothing else."""
    rows = [
        {"claim": claim, **dict.fromkeys(factors, "one"), "number": n, "effect": size}
        for claim, factors in FACTORS.items()
        for n in range(8)
    ]
    table = pd.DataFrame(rows)
    return table.assign(low=table.effect - 0.1, high=table.effect + 0.1)


def test_a_seed_that_decides_explains_everything(tmp_path):
    who = {"task": "inference", "preset": "smoke", "runs": str(tmp_path)}
    for seed, size in ((0, 0.3), (1, -0.3)):
        write_stage(LAB, who | {"seed": seed}, Result({}, {"specifications": specifications(size)}))
    p = stage_parameters("08_synthesis", {"preset": "smoke", "runs": str(tmp_path)})
    found = curves_over_runs(p, {"inference": {0: {LAB: {}}, 1: {LAB: {}}, 2: {}, "all": {}}})
    for claim in FACTORS:
        one = found["inference"][claim]
        assert (one["n"], one["n_seeds"], one["share"], one["positive"]) == (16, 2, 0.5, 0.5)
        assert one["explained"]["seed"] == pytest.approx(1)


def test_a_planted_order_of_the_tasks_is_foretold_and_the_reverse_is_not():
    for turn, value, p in ((1, 1.0, 1 / 120), (-1, -1.0, 1.0)):
        table = forecast_table(in_order(turn))
        found = foretold(table, 0)
        assert len(table) == 20 and set(found) == set(DIRECTIONS)
        for by in found.values():
            for one in by.values():
                assert (one["value"], one["p"]) == pytest.approx((value, p))
                assert (one["n"], one["n_tasks"]) == (10, 5)
        drawing = figures.forecast(table, found)
        figures.plt.close("all")
        assert drawing.name == "forecast" and f"{value:+.2f}" in drawing.alt


def test_success_that_no_limit_allows_is_none():
    table = forecast_table({"inference": {0: stages(0.5, 0.9, kept=False)}})
    assert (table.success == 0).all()
    few = foretold(table, 0)["m2g"]["cosine"]
    assert few["value"] is None and few["n_tasks"] == 1
    drawing = figures.forecast(table, foretold(table, 0))
    figures.plt.close("all")
    assert "undefined" in drawing.alt and "None" not in drawing.alt


def test_a_study_without_the_lab_has_neither():
    table = forecast_table({"inference": {0: {}, "all": {}}})
    assert foretold(table, 0) == {} and list(table.columns) and table.empty
    assert np.isnan(forecast_table({"i": {0: stages(float("nan"), 0.1)}}).cosine).all()
