"""Claims on committed runs: the numbers of planted labs, written as tables, have the ledger's verdicts."""

from __future__ import annotations

import pandas as pd
import pytest

from memgen.claims.committed import judged_board, judged_runs
from memgen.claims.ledger import verdict_on
from memgen.claims.quantities.multiverse import EVERY_TASK
from memgen.claims.quantities.multiverse import LAB as CHOICES
from memgen.claims.quantities.rivals import CORRELATES
from memgen.pipeline.rivals import by_path
from memgen.terms import CONTRADICTED, DIRECTIONS, OPEN, REVERSED, SUPPORTED
from planted_board import correlates, multiverse

TASKS = ["arithmetic-tagged", "arithmetic-matched", "cipher-tagged", "cipher-matched", "inference"]


def table(results: dict[tuple[str, int], dict], track: str = "scratch") -> pd.DataFrame:
    """As `make rivals` collects the runs: a row each."""
    return pd.DataFrame(
        {"track": track, "task": task, "seed": seed} | dict(by_path(result))
        for (task, seed), result in results.items()
    )


def of_inference(*results: dict, track: str = "scratch") -> pd.DataFrame:
    return table({("inference", seed): one for seed, one in enumerate(results)}, track)


@pytest.mark.parametrize(
    "beyond, wanted",
    [
        ([0.9, 0.95, 0.92], SUPPORTED),
        ([0.1, 0.15, 0.12], REVERSED),
        ([0.5, 0.51, 0.5], CONTRADICTED),
        ([0.9], OPEN),
    ],
)
def test_a_verdict_is_made_from_the_seeds(beyond, wanted):
    found = judged_runs({CORRELATES: of_inference(*(correlates(beyond=x) for x in beyond))})
    assert {one["id"] for one in found} == {"control_apart", "control_far_out"}
    assert verdict_on(found, "control_far_out", "inference") == wanted
    assert all(one["cases"]["inference"]["n_seeds"] == len(beyond) for one in found)


def test_what_is_not_defined_is_left_out_and_so_are_adapters():
    known = of_inference(*(multiverse(above=x) for x in (0.5, 0.52, None)))
    adapters = of_inference(*(multiverse(above=-0.5) for _ in range(3)), track="lora")
    found = judged_runs({CHOICES: pd.concat([known, adapters], ignore_index=True)})
    (one,) = [claim for claim in found if claim["id"] == "stable_neurons"]
    assert one["cases"]["inference"]["n_seeds"] == 2 and one["effect"] == pytest.approx(0.51)


@pytest.mark.parametrize("turn, wanted", [(1, SUPPORTED), (-1, REVERSED)])
def test_the_order_of_the_tasks_needs_the_success_of_lab_06(turn, wanted):
    runs = [(task, seed) for task in TASKS for seed in range(3)]
    rank = {task: k for k, task in enumerate(TASKS)}
    cell = {task: {"success": 0.1 * k, "kept_exists": True} for task, k in rank.items()}
    tables = {
        CHOICES: table({run: multiverse(cosine=turn * 0.1 * rank[run[0]]) for run in runs}),
        "06_intervention": table({run: dict.fromkeys(DIRECTIONS, cell[run[0]]) for run in runs}),
    }
    assert verdict_on(judged_runs(tables), "forecast", EVERY_TASK) == wanted
    without = judged_runs({CHOICES: tables[CHOICES]})
    assert verdict_on(without, "forecast", EVERY_TASK) is None


def test_no_table_no_claim():
    assert judged_runs({}) == []


def test_the_scoreboards_claims_are_judged_where_every_method_was_run():
    """The edit wins by much on the matched task; where it has nothing within the limit, it turns nothing."""
    rows = [
        {"track": track, "task": task, "seed": seed, "method": method, "direction": "m2g"}
        | {"choice": choice, "success": success, "n": 100, "n_keys": 20}
        for track, swapped in (("scratch", False), ("lora", True))
        for task, edit in (("arithmetic-matched", 0.7), ("cipher-matched", None))
        for seed in range(4)
        for method, kept in (("nmd", 0.1 + seed / 100), ("kfac", edit))
        for choice, success in (("kept", 0.0 if swapped else kept), ("max", 0.9))
    ]
    found = judged_board(pd.DataFrame(rows))
    assert verdict_on(found, "edit_matched", "arithmetic-matched") == SUPPORTED
    assert verdict_on(found, "edit_matched", "cipher-matched") == REVERSED
    (one,) = [claim for claim in found if claim["id"] == "edit_matched"]
    assert one["cases"]["arithmetic-matched"]["effect"] == pytest.approx(0.585)
    assert one["cases"]["cipher-matched"]["effect"] == pytest.approx(-0.115)
    assert verdict_on(found, "board_m2g.caa", "arithmetic-matched") is None  # it was not run
