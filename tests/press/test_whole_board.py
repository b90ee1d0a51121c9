"""The committed scoreboard: means over seeds, what is none, and pruning at its home."""

from __future__ import annotations

import pandas as pd
import pytest

from memgen.pipeline.rivals import HOME, RESULTS
from memgen.store.files import write_json
from press.whole_board import whole_board


@pytest.fixture
def folder(tmp_path):
    found = tmp_path / "data" / "reference" / "rivals"
    found.mkdir(parents=True)
    return found


def row(seed, method, direction, success, choice="kept", task="inference") -> dict:
    return {
        "track": "scratch",
        "task": task,
        "seed": seed,
        "method": method,
        "title": method.upper(),
        "kind": "editing" if method == "kfac" else "steering",
        "direction": direction,
        "choice": choice,
        "success": success,
        "seconds": 3.0,
    }


def test_means_over_seeds_and_what_is_not_within_the_limit_turns_nothing(tmp_path, folder):
    rows = [
        row(26, "nmd", "m2g", 0.5),
        row(26, "nmd", "m2g", 0.9, "max"),
        row(27, "nmd", "m2g", None),
        row(26, "nmd", "g2m", 0.25),
        row(27, "nmd", "g2m", 0.75),
        row(26, "kfac", "m2g", 0.125),
        row(26, "kfac", "m2g", 0.125, task="cipher-tagged"),
    ]
    pd.DataFrame(rows).to_csv(folder / RESULTS, index=False)
    about = {"command": "make rivals", "machine": {"cores": 2, "processor": "a processor"}}
    write_json(folder / "about.json", about)
    found = whole_board(tmp_path)
    nmd, kfac = found.rows
    assert nmd.success == {"m2g": {"inference": 0.25}, "g2m": {"inference": 0.5}}
    assert not found.adapters
    assert kfac.success == {"m2g": {"inference": 0.125, "cipher-tagged": 0.125}}
    assert (nmd.title, nmd.seconds, kfac.seconds) == ("NMD", 6.0, 3.0)  # both directions
    assert [one.name for one in found.having("g2m")] == ["nmd"]
    assert found.tasks == ["inference", "cipher-tagged"] and found.seeds == 2 and not found.home
    assert found.machine == "2 cores of a processor" and found.command == "make rivals"


def test_what_is_left_at_home_by_share_and_order(tmp_path, folder):
    table = [
        {"seed": seed, "order": order, "cut": cut, "unseen_right": value + seed / 10}
        | {"wrong_as_taught": 1 - cut, "wrong_put_right": cut}
        for seed in (0, 1)
        for order, value in (("lowest first", 0.8), ("random", 0.2))
        for cut in (0.0, 0.5)
    ]
    pd.DataFrame(table).to_csv(folder / HOME, index=False)
    found = whole_board(tmp_path)
    assert found.home_seeds == 2 and not found.rows
    assert [one["cut"]["share"] for one in found.home] == [0.0, 0.5]
    half = found.home[1]
    assert half["lowest first"]["unseen_right"] == pytest.approx(0.85)
    assert half["random"]["unseen_right"] == pytest.approx(0.25)
    assert half["random"]["wrong_as_taught"] == 0.5


def test_nothing_before_the_runs(tmp_path):
    assert whole_board(tmp_path) == whole_board(tmp_path / "elsewhere")
    assert not whole_board(tmp_path).rows
