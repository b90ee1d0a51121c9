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
        "kind": {"kfac": "editing", "untouched": "null"}.get(method, "steering"),
        "direction": direction,
        "choice": choice,
        "success": success,
        "free_lost": None if success is None else 0.01,
        "number": {"nmd": 1, "kfac": 2, "caa": 3, "untouched": 4}[method],
        "n": None if success is None else 30,
        "n_keys": None if success is None else 10,
        "candidates": 50,
        "seconds": 3.0,
    }


def values(row, direction: str) -> dict[str, float]:
    return {task: one.effect.value for task, one in row.success[direction].items()}


def written(folder, rows: list[dict]) -> None:
    pd.DataFrame(rows).to_csv(folder / RESULTS, index=False)
    about = {"command": "make rivals", "machine": {"cores": 2, "processor": "a processor"}}
    write_json(folder / "about.json", about)


def test_means_over_seeds_and_what_is_not_within_the_limit_turns_nothing(tmp_path, folder):
    written(
        folder,
        [
            row(26, "nmd", "m2g", 0.5),
            row(26, "nmd", "m2g", 0.9, "max"),
            row(27, "nmd", "m2g", None),
            row(27, "nmd", "m2g", 0.9, "max"),
            row(26, "nmd", "g2m", 0.25),
            row(27, "nmd", "g2m", 0.75),
            row(26, "kfac", "m2g", 0.125),
            row(26, "kfac", "m2g", 0.125, task="cipher-tagged"),
            row(26, "untouched", "m2g", 0.0),
        ],
    )
    (tmp_path / "figures").mkdir()
    found = whole_board(tmp_path, tmp_path)
    nmd, kfac, untouched = found.rows
    assert untouched.kind == "null" and found.having("m2g", "null") == [untouched]
    assert values(nmd, "m2g") == {"inference": 0.25} and values(nmd, "g2m") == {"inference": 0.5}
    assert not found.adapters and found.prompts == (30, 30) and found.keys == (10, 10)
    assert values(kfac, "m2g") == {"inference": 0.125, "cipher-tagged": 0.125}
    effect = nmd.success["m2g"]["inference"].effect
    assert (effect.n, effect.n_keys, effect.n_seeds) == (60, 20, 2)
    assert (nmd.title, nmd.seconds, kfac.seconds) == ("NMD", 6.0, 3.0)  # both directions
    assert found.most("m2g", "steering") == [0.25] and found.most("m2g", "editing") == [0.125] * 2
    assert nmd.candidates == 50 and [one.name for one in found.having("g2m")] == ["nmd"]
    assert found.tasks == ["inference", "cipher-tagged"] and found.seeds == 2 and not found.home
    assert found.machine == "2 cores of a processor" and found.command == "make rivals"
    assert [one.name for one in found.figures] == ["every_method", "every_cost"]
    assert all((tmp_path / "figures" / f"{one.name}.png").is_file() for one in found.figures)
    assert "NMD: m2g inference 25%; g2m inference 50%" in found.figures[0].alt
    # two seeds, in one of which nothing is within the limit
    assert (
        "inference m2g: within the limit nmd 25% at 0 points, by success alone nmd 90%"
        in found.figures[1].alt
    )


def test_a_method_is_above_the_paper_only_where_the_interval_of_the_difference_says_so(
    tmp_path, folder
):
    planted = {"nmd": (0.30, 0.50, 0.40), "caa": (0.50, 0.71, 0.59), "kfac": (0.60, 0.30, 0.45)}
    written(
        folder,
        [
            row(seed, name, "m2g", success, choice)
            for name, of in planted.items()
            for seed, success in zip((26, 27, 28), of)
            for choice in ("kept", "max")
        ],
    )
    (nmd, caa, kfac) = (one.success["m2g"]["inference"] for one in whole_board(tmp_path).rows)
    assert (nmd.side, caa.side, kfac.side) == ("", "more", "")  # kfac has the larger mean, too
    low, high = caa.effect.low, caa.effect.high
    assert low == pytest.approx(0.6 - 4.3027 * (0.0222 / 2) ** 0.5 / 3**0.5, abs=1e-4)
    plain = str(caa).replace("\u2060", "").replace("\u00a0", " ")
    assert plain == f"60 % ({100 * low:.0f}–{100 * high:.0f}) more"


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
