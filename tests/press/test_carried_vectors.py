"""Committed vectors on other tasks' models: parted by base, means over seeds; forecasts of methods."""

from __future__ import annotations

import pandas as pd
import pytest

from memgen.claims.quantities.multiverse import LAB
from memgen.pipeline.rivals import CARRIED, RESULTS, table_of
from press.carried_vectors import carried_vectors
from press.method_forecasts import method_forecasts

TASKS = ["arithmetic-tagged", "arithmetic-matched", "cipher-tagged", "cipher-matched", "inference"]


@pytest.fixture
def folder(tmp_path):
    found = tmp_path / "data" / "reference" / "rivals"
    found.mkdir(parents=True)
    return found


def test_rows_are_parted_by_whether_the_models_start_from_one(folder, tmp_path):
    rows = [
        {"source": source, "target": target, "direction": "m2g", "method": "held", "seed": seed}
        | {"success": success + seed / 10, "n": 30, "shared_base": source[:3] == target[:3]}
        for seed in (0, 1)
        for source, target, success in (
            ("arithmetic-tagged", "arithmetic-tagged", 0.8),
            ("arithmetic-tagged", "arithmetic-matched", 0.4),
            ("inference", "arithmetic-matched", 0.1),
            ("cipher-tagged", "arithmetic-matched", 0.3),
        )
    ]
    pd.DataFrame(rows).to_csv(folder / CARRIED, index=False)
    found = carried_vectors(tmp_path)
    assert found.n_seeds == 2
    (one,) = found.rows
    assert (one.source, one.target, one.direction) == (
        "arithmetic-tagged",
        "arithmetic-matched",
        "m2g",
    )
    assert (one.home["held"], one.there["held"]) == pytest.approx((0.85, 0.45))
    assert found.foreign("m2g", "held") == pytest.approx([0.25])  # of two sources
    assert found.foreign("g2m", "held") == []


def test_a_method_whose_success_follows_the_pairs_is_foretold_and_another_is_not(folder, tmp_path):
    board = [
        {"track": track, "task": task, "seed": seed, "method": name, "title": name, "kind": kind}
        | {"direction": d, "choice": choice, "success": success}
        for track in ("scratch", "lora")
        for seed in (0, 1)
        for k, task in enumerate(TASKS)
        for name, kind, of in (("follows", "steering", k), ("reversed", "steering", 4 - k))
        for d in ("m2g", "g2m")
        for choice, success in (("kept", of / 5 or None), ("max", (k * 7 % 5) / 5))
    ]
    board += [board[0] | {"method": "edit", "title": "edit", "kind": "editing"}]
    ahead = [
        {"track": track, "task": task, "seed": seed}
        | {"forecast.cosine": sign * k, "forecast.separation": 1.0}
        for track, sign in (("scratch", 1), ("lora", -1))
        for seed in (0, 1)
        for k, task in enumerate(TASKS)
    ]
    pd.DataFrame(board).to_csv(folder / RESULTS, index=False)
    pd.DataFrame(ahead).to_csv(folder / table_of(LAB), index=False)
    found = method_forecasts(tmp_path)
    assert [row["title"] for row in found.rows] == ["follows", "reversed"] and found.n_tasks == 5
    one, other = ({k: v for k, v in row.items() if k != "title"} for row in found.rows)
    assert one["m2g.cosine"] == one["g2m.cosine"] == "1.00 (0.01)"  # 1 of 120 orders
    assert other["m2g.cosine"].endswith("1.00 (1.00)") and other["m2g.cosine"] != "1.00 (1.00)"
    assert one["m2g.separation"] == "n/a"  # nothing differs
    assert (found.n, found.rare) == (4, 2) and found.expected == pytest.approx(0.2)


def test_nothing_before_the_runs(tmp_path):
    assert not carried_vectors(tmp_path).rows and not method_forecasts(tmp_path).rows
