"""Numbers of a run in prose: how they are written, and what stands beside what."""

from __future__ import annotations

import html
import json
import re

import pandas as pd
import pytest
from fake_run import make_run

from press.errors import BookError
from press.numbers import (
    NOTHING,
    SPACE,
    Numbers,
    agree,
    decimal,
    listed,
    percent,
    plural,
    seconds,
    span,
)
from press.run import Run


def test_numbers_are_written_for_readers():
    assert percent(0.256) == f"26{SPACE}%" and percent(None) == NOTHING
    assert percent(0.0125, 1) == f"1.3{SPACE}%"
    for n in (40, 200):  # halves go up, as the live page rounds them
        assert all(percent(k / n) == f"{(200 * k + n) // (2 * n)}{SPACE}%" for k in range(n + 1))
    assert decimal(-0.5) == "−0.50" and decimal(-0.001) == "0.00"
    assert decimal(1234567.0, 0) == f"1{SPACE}234{SPACE}567"
    assert (seconds(48), seconds(125), seconds(7380)) == ("48 s", "2 min 05 s", "2 h 03 min")


def test_words_follow_their_numbers():
    assert plural(1, "task") == "1 task" and plural(0, "task") == "0 tasks"
    assert plural(2, "holds", "hold") == "2 hold" and agree(1, "meets", "meet") == "meets"
    assert listed(["a", "b"]) == " (a, b)" and listed([]) == ""


def test_a_span_is_one_number_where_both_ends_read_alike():
    assert span([0.3, None, 0.1]) == f"10{SPACE}% to 30{SPACE}%"
    assert span([0.301, 0.304]) == f"30{SPACE}%" and span([None]) == NOTHING
    assert span([0.5, 0.75], decimal) == "0.50 to 0.75"


@pytest.fixture
def changed(tmp_path, notebook):
    """`change(stage, **by_seed)` edits results of a made-up run of two seeds; its `Numbers`."""
    folder = make_run(tmp_path, ["cipher-tagged", "cipher-matched"], [0, 1], notebook)

    def change(stage: str, change) -> Numbers:
        for seed in (0, 1):
            path = folder / "cipher-tagged" / f"seed{seed}" / stage / "result.json"
            result = json.loads(path.read_text())
            change(seed, result)
            path.write_text(json.dumps(result))
        return Numbers(Run(folder))

    return change


@pytest.fixture
def steering(tmp_path, notebook):
    """`steering(rows)`: the `Numbers` of a run whose lab 8 left these rates."""
    folder = make_run(tmp_path, ["cipher-tagged", "cipher-matched"], [0], notebook)

    def write(*rows: tuple) -> Numbers:
        columns = ["task", "direction", "kind", "rate", "low", "high", "n"]
        table = pd.DataFrame(rows, columns=columns).assign(n_keys=9, n_seeds=3, n_kept=2)
        table.to_parquet(folder / "study" / "all" / "08_synthesis" / "steering.parquet")
        return Numbers(Run(folder))

    return write


def test_rates_of_steering_are_those_of_lab_8(steering):
    numbers = steering(
        ("cipher-tagged", "m2g", "forbid_source", 0.9, 0.8, 1.0, 40),
        ("cipher-tagged", "m2g", "steered", 0.7, 0.6, 0.8, 40),
        ("cipher-tagged", "g2m", "steered", 0.1, None, None, 20),
        ("cipher-matched", "m2g", "steered", 0.5, 0.4, 0.6, 40),
    )
    found = numbers.success("cipher-tagged", "m2g")
    counts = {"n": 40, "n_kept": 2, "n_seeds": 3}
    assert found == {"success": 0.7, "low": 0.6, "high": 0.8, **counts}
    assert numbers.success("cipher-tagged", "g2m")["low"] is None  # one seed has no interval
    assert numbers.success("cipher-tagged", "m2g", "forbid_source")["success"] == 0.9
    assert numbers.successes("m2g") == [0.7, 0.5]


def test_controls_are_all_that_steering_stands_beside(steering):
    numbers = steering(
        ("cipher-tagged", "m2g", "low_rho", 0.1, 0.0, 0.2, 400),
        ("cipher-tagged", "m2g", "steered", 0.7, 0.6, 0.8, 40),
        ("cipher-tagged", "m2g", "rephrasing_order", 0.2, 0.1, 0.3, 50),
        ("cipher-tagged", "g2m", "low_rho", 0.5, 0.4, 0.6, 400),
    )
    found = numbers.controls("cipher-tagged", "m2g")
    assert list(found) == ["low_rho", "rephrasing_order"]
    counts = {"n": 400, "n_kept": 2, "n_seeds": 3}
    assert found["low_rho"] == {"success": 0.1, "low": 0.0, "high": 0.2, **counts}


def test_a_seed_without_a_cell_within_the_limit_turns_none_and_says_where_that_is_from(changed):
    def plant(seed, result):
        result["m2g"] |= {"success": 0.8 - seed / 10, "kept_exists": seed == 0}

    numbers = changed("06_intervention", plant)
    assert numbers.within("cipher-tagged", "m2g") == [0.8, 0.0]
    sourced = Numbers(numbers.run.sourced())
    text = span(sourced.within("cipher-tagged", "m2g"))
    hows = [html.unescape(how) for how in re.findall('data-how="(.*?)"', text)]
    found = [one["m2g"] for one in numbers.results("cipher-tagged", "06_intervention")]
    read = [eval(how, {"x": found, "percent": percent}) for how in hows]
    assert read == [f"0{SPACE}%", f"80{SPACE}%"]


def test_who_is_taught_is_said_by_the_runs_own_parameters(tmp_path, notebook):
    folder = make_run(tmp_path, ["inference"], [0], notebook)
    design, training = (
        folder / "inference" / "seed0" / name for name in ("01_dataset_design", "02_training")
    )

    def write(path, **changes):
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    def given(path, **changes):
        parameters = json.loads((path / "manifest.json").read_text())["parameters"]
        write(path / "manifest.json", parameters=parameters | changes)

    said = {"keys": "every key", "gate": "7 gate keys", "none": "no key"}
    given(design, n_gate_keys=7)
    for on, words in said.items():
        write(design / "result.json", contrast_on=on)
        for balance in (False, True):
            given(training, balance=balance)
            found = Numbers(Run(folder)).taught("inference")
            assert found.startswith(words) and ("balance" in found) == balance


def test_what_was_not_run_is_undefined_and_reads_so(steering):
    numbers = steering(("cipher-tagged", "m2g", "steered", 0.7, 0.6, 0.8, 40))
    missing = numbers.success("cipher-tagged", "m2g", "best_of_random")
    assert set(missing.values()) == {None} and percent(missing["success"]) == NOTHING
    assert numbers.controls("cipher-tagged", "g2m") == {}


def test_counts_add_up_over_seeds_and_tasks(changed):
    def plant(seed, result):
        result["n_conflict"]["test"] = 10 + seed
        result["n_free"] = {"train": 1, "validation": 2, "test": 3 + seed}

    numbers = changed("01_dataset_design", plant)
    asked = ("01_dataset_design", "n_conflict.test")
    assert numbers.total("cipher-tagged", *asked) == 21
    assert numbers.overall(*asked) == 21 + 2 * 190 and numbers.first_seeds(*asked) == 10 + 190
    assert numbers.values("cipher-tagged", "01_dataset_design", "n_free.sum") == [6, 7]


def test_models_on_one_base_are_told_from_strangers(changed, tmp_path):
    numbers = changed("03_pairs", lambda seed, result: None)
    path = tmp_path / "laptop" / "cipher-tagged" / "all" / "07_transfer" / "result.json"
    result = json.loads(path.read_text())
    overlap = [[1.0, 0.4, 0.2], [0.4, 1.0, 0.1], [0.2, 0.1, 1.0]]
    by_layer = [[0.3, 0.1, 0.06], [0.1, 0.3, 0.08], [0.06, 0.08, 0.3]]
    result["retrain"] |= {"base": ["a", "a", "b"], "overlap": overlap, "overlap_by_layer": by_layer}
    path.write_text(json.dumps(result))
    assert numbers.overlap("cipher-tagged") == pytest.approx({"shared": 0.4, "stranger": 0.15})
    by_layer = numbers.overlap("cipher-tagged", "overlap_by_layer")
    assert by_layer == pytest.approx({"shared": 0.1, "stranger": 0.07})
    result["retrain"] |= {"base": ["a"], "overlap": [[1.0]]}
    path.write_text(json.dumps(result))
    again = Numbers(Run(tmp_path / "laptop"))
    assert again.overlap("cipher-tagged") == {"shared": None, "stranger": None}


def test_a_tagged_task_has_a_twin(changed):
    numbers = changed("03_pairs", lambda seed, result: None)
    assert numbers.twin("cipher-tagged") == "cipher-matched"
    assert numbers.twin("cipher-matched") is None and numbers.twin("inference") is None
    assert numbers.families() == [("cipher", "cipher-tagged", "cipher-matched")]


def test_lists_are_written_layer_by_layer_and_an_undefined_part_is_no_error(changed):
    """Two seeds; the second has no base, and the first a flat map in the first layer."""

    def plant(seed, result):
        base = {"share": [0.02, 0.3, 0.704], "correlation": [None, 0.5, -0.25]}
        result["base_null"] = None if seed else base
        result["share"] = [0.1 * seed, 0.5, 1.0]

    numbers = changed("04_differentiation", plant)
    asked = ("cipher-tagged", "04_differentiation")
    assert numbers.by_layer(*asked, "share") == "5 · 50 · 100\u00a0%"
    assert numbers.by_layer(*asked, "base_null.share") == "2 · 30 · 70\u00a0%"
    assert numbers.by_layer(*asked, "base_null.correlation", 2) == "n/a · 0.50 · −0.25"
    assert numbers.values(*asked, "base_null.share.max") == [0.704, None]
    assert numbers.cell(*asked, "base_null.share.max") == "70\u00a0%"
    with pytest.raises(BookError, match="no key"):
        numbers.by_layer(*asked, "share.none")


def test_what_the_run_does_not_hold_is_an_error(changed):
    numbers = changed("03_pairs", lambda seed, result: None)
    with pytest.raises(BookError, match="no key 'm2g.sucess'"):
        numbers.mean("cipher-tagged", "06_intervention", "m2g.sucess")
    with pytest.raises(BookError, match="is not part of this run"):
        numbers.mean("inference", "06_intervention", "m2g.success")


def test_success_at_equal_nearness_pools_the_seeds_answers(changed):
    def rate(success, n):
        return {"success": success, "interval": [0, 1], "n": n}

    planted = (
        [
            {"nearness": -2.0, "steered": rate(1.0, 4), "forbid": rate(1.0, 4)},
            {"nearness": -1.0, "steered": rate(0.5, 6), "forbid": rate(1.0, 6)},
            {"nearness": 1.0, "steered": rate(1.0, 2), "forbid": rate(0.5, 2)},
        ],
        [
            {"nearness": -1.0, "steered": rate(0.0, 30), "forbid": rate(0.0, 30)},
            {"nearness": 0.0, "steered": rate(None, 0), "forbid": rate(None, 0)},
        ],
    )

    def plant(seed, result):
        result["m2g"]["by_setting"] = planted[seed]
        result["g2m"]["by_setting"] = None

    numbers = changed("06_intervention", plant)
    assert numbers.by_setting("cipher-tagged", "m2g") == {
        "n": "40 · 0 · 2",
        "steered": "18 · n/a · 100",
        "forbid": "25 · n/a · 50",
    }
    assert numbers.by_setting("cipher-tagged", "g2m") is None
