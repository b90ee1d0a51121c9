"""Lab 13 on a planted model: one coordinate decides, so methods that see it turn every answer."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from computing import planted_lab, run_cell
from memgen.config.rivals import METHOD_NAMES, QUICK
from memgen.errors import ParameterError
from memgen.figures import scoreboard as figures
from memgen.labs import scoreboard as science
from memgen.labs.intervention import rephrasing
from memgen.neurons.nmd import NeuronMaps
from memgen.presets import stage_parameters
from memgen.rivals.roster import METHODS, PAPER
from memgen.steering.cells import grid
from memgen.store.artifacts import Result
from memgen.terms import DIRECTIONS
from planted import PlantedAlike
from steered import ONE

SIZES = {"n_prompts": 60, "n_free_validation": 20, "n_side_effect_prompts": 8}
STEERED = SIZES | {
    "alphas": [1.0, 4.0],
    "top_ns": [ONE, 0.3],
    "n_control_draws": 1,
    "n_control_prompts": 8,
    "n_dose_prompts": 8,
    "n_random_directions": 2,
}
#: quick ones; what all of them do is asked in tests/unit/rivals
SOME = ["nmd", "caa", "untouched", "random_directions"]
ASKED = SIZES | {"methods": SOME, "n_candidates": 50}


@pytest.fixture(scope="module")
def done(tmp_path_factory, planted, planted_direction):
    """Lab 13 after its computing cell was run, and lab 06's before it."""
    made, runs = planted(PlantedAlike), tmp_path_factory.mktemp("runs")
    left = {"04_differentiation": Result({"site": "resid_post"}, {}, {"arrays": planted_direction})}
    run_cell(planted_lab("06_intervention", runs, made, STEERED, left))
    found = planted_lab("13_scoreboard", runs, made, ASKED, left)
    run_cell(found)
    return found


def test_chosen_vectors_are_kept_as_they_were_added(done):
    """Every method of `SOME` adds a vector; what was chosen of each lies in the file, signed."""
    kept, r = done.arrays("shifts"), done.result
    rows = {
        f"{name}.{direction}.{choice}": row[choice]
        for direction in DIRECTIONS
        for name, row in r[direction]["rows"].items()
        for choice in science.CHOICES
        if row[choice]
    }
    assert set(kept) == set(rows) and {name.partition(".")[0] for name in rows} == set(SOME)
    for name, row in rows.items():
        assert kept[name].dtype == np.float32
        assert np.linalg.norm(kept[name]) == pytest.approx(row["strength"], rel=1e-6)
    both = [kept[f"caa.{direction}.max"].ravel() for direction in DIRECTIONS]
    assert np.dot(*both) < 0  # the planted coordinate, one way and the other


def test_methods_that_see_the_planted_coordinate_lead_and_the_paper_equals_lab_06(done):
    r, scores = done.result, done.table("scores")
    json.dumps(r)
    assert list(r["methods"]) == SOME and r["lacking"] == {} and r["paper"] == PAPER
    kept = {name: row["kept"] for name, row in r["m2g"]["rows"].items()}
    assert kept["nmd"]["success"] == kept["caa"]["success"] == 1.0
    assert kept["untouched"]["success"] == 0.0
    assert "untouched" in r["m2g"]["below_paper"] and not r["m2g"]["above_paper"]
    assert kept["caa"]["against_paper"]["value"] == 0.0
    # both labs chose the same cell, and say the same of it
    assert r["m2g"]["as_lab_06"]["kept"] == r["g2m"]["as_lab_06"]["max"] == 0.0
    assert science.identity_holds(r)
    assert set(r["timings"]) >= {"seconds", "nmd.m2g", "untouched.g2m"}
    assert len(scores) == len(SOME) * 2 * 2
    assert "NMD" in science.answer(r, "m2g") and science.answer(r, "g2m")


def test_the_papers_choice_is_that_of_lab_06_and_a_race_of_its_own_says_the_same(done):
    run, p, r = done.run, done.parameters, done.result
    q = run["06_intervention"].parameters
    maps = NeuronMaps.of(run["04_differentiation"].arrays("arrays"), q.site)
    material = SimpleNamespace(cells=tuple(grid(q.alphas, q.top_ns, maps.nmd, maps.rho)))
    known = science.known_from_lab_06(run, material, p)
    assert set(known) == {(PAPER, d) for d in DIRECTIONS}
    for direction in DIRECTIONS:
        row, steered = r[direction]["rows"][PAPER], run["06_intervention"].result[direction]
        assert row["rows_run"] == steered["race"]["run"] and row["risk"] == steered["race"]["risk"]
        for choice in science.CHOICES:
            if row[choice] is not None:
                for name in ("validation_success", "validation_n", "validation_free_after"):
                    assert row[choice][name] == steered[choice][name]
    # other prompts or another limit: raced anew
    for name, value in (("n_free_validation", 3), ("n_tuning_prompts", 5), ("n_candidates", 1)):
        assert science.known_from_lab_06(run, material, p.model_copy(update={name: value})) == {}
    assert science.known_from_lab_06(run, SimpleNamespace(cells=material.cells[1:]), p) == {}


def test_a_difference_to_lab_06_at_the_same_cell_is_seen(done):
    r = done.result
    row, steered = r["m2g"]["rows"]["nmd"], r["m2g"]["rows"]["nmd"]["kept"]
    theirs = {name: steered[name] for name in science.SHARED} | steered["setting"]
    assert science.as_lab_06(row, {"max": None, "kept": theirs}) == {"max": None, "kept": 0.0}
    off = theirs | {"success": theirs["success"] - 0.25}
    assert science.as_lab_06(row, {"max": None, "kept": off})["kept"] == pytest.approx(0.25)
    r["m2g"]["as_lab_06"] = {"max": 0.25}
    assert not science.identity_holds(r)
    elsewhere = theirs | {"alpha": 99.0}
    assert science.as_lab_06(row, {"max": None, "kept": elsewhere})["kept"] is None
    assert science.as_lab_06(None, {}) is None
    fewer = theirs | {"n_free": 3, "free_accuracy_after": 0.0}
    assert science.as_lab_06(row, {"max": None, "kept": fewer})["kept"] == 0.0


def test_the_floor_is_that_of_lab_06(planted):
    answered = planted(PlantedAlike)[4]
    for direction in DIRECTIONS:
        bars, rows = rephrasing(answered, direction)
        floor = science.Floor.of(answered, direction, 0)
        bar = bars["rephrasing_order"]
        assert floor.numbers["success"] == bar.success and floor.numbers["n"] == bar.n
        assert floor.numbers["other"] == bar.other
        assert len(floor.answers) == bar.n and floor.numbers["key_interval"]


def test_what_is_fitted_chosen_and_judged_on_are_keys_of_their_own(planted):
    _, _, _, frame, answered = planted(PlantedAlike)
    p = stage_parameters("13_scoreboard", {"task": "inference", "seed": 0, **SIZES})
    tuning = science.tuned_on((answered, frame), p)
    testing = science.judged_on((answered, frame), p)
    split = dict(zip(frame.key, frame.split))
    for d in DIRECTIONS:
        assert {split[key] for key in tuning.turned[d].key} == {"validation"}
        assert {split[key] for key in testing.turned[d].key} == {"test"}
    assert {split[key] for key in testing.keyed.key} == {"test"}
    assert set(tuning.free.split) == {"validation"} and set(testing.free.split) == {"test"}


def test_methods_are_those_of_the_roster():
    assert tuple(METHODS) == METHOD_NAMES
    assert set(QUICK) <= set(METHOD_NAMES) and PAPER in QUICK
    assert science.chosen_methods([]) == list(METHODS.values())
    names = [method.name for method in science.chosen_methods(["untouched", "nmd"])]
    assert names == ["nmd", "untouched"]  # in the order of the table
    with pytest.raises(ParameterError, match="methods"):
        stage_parameters("13_scoreboard", {"task": "inference", "methods": ["nonesuch"]})


def planted_scores() -> tuple[pd.DataFrame, dict]:
    """A table with a method that keeps the limit, one that does not, one that only removes, and a null."""
    kinds = {"nmd": "steering", "caa": "steering", "kfac": "editing", "random_directions": "null"}
    about = {
        name: {"title": name.upper(), "source": "", "read_in": "abstract", "kind": kind}
        for name, kind in kinds.items()
    }

    def choice(success, lost=0.0):
        return {
            "label": "layer 1",
            "success": success,
            "key_interval": [success - 0.1, success + 0.1],
            "free_accuracy_before": 1.0,
            "free_accuracy_after": 1.0 - lost,
            "keyed_accuracy_before": 1.0,
            "keyed_accuracy_after": 0.25,
        }

    rows = {
        "nmd": {"candidates": 50, "max": choice(0.9, 0.5), "kept": choice(0.5)},
        "caa": {"candidates": 48, "max": choice(0.7, 0.3), "kept": None},
        "random_directions": {"candidates": 48, "max": choice(0.3), "kept": choice(0.2)},
    }
    one_way = {"kfac": {"candidates": 30, "max": choice(0.8), "kept": choice(0.8)}}
    r = {"methods": about, "collateral_limit": 0.01}
    r |= {d: {"rows": rows | (one_way if d == "m2g" else {})} for d in DIRECTIONS}
    for d in DIRECTIONS:
        r[d] |= {"floor": {"success": 0.25}, "above_paper": ["kfac"] if d == "m2g" else []}
    return science.scores(r), r


def test_scores_leave_empty_what_there_is_not():
    scores, _ = planted_scores()
    assert len(scores) == 4 * 2 + 3 * 2
    one = scores[(scores.method == "caa") & (scores.choice == "kept")]
    assert one.success.isna().all() and one.free_lost.isna().all()
    assert set(scores.direction[scores.method == "kfac"]) == {"m2g"}
    worst = scores[(scores.method == "nmd") & (scores.choice == "max")].iloc[0]
    assert worst.free_lost == 0.5 and worst.keyed_lost == 0.75 and worst.number == 1


def test_figures_say_every_number_in_their_texts():
    scores, r = planted_scores()
    board = figures.board(scores, r)
    assert "nmd 50% (no limit 90%)" in board.alt and "caa none (no limit 70%)" in board.alt
    assert board.alt.count("kfac 80%") == 1 and "order alone 25%" in board.alt
    labels = [text.get_text() for text in board.figure.axes[0].get_yticklabels()]
    assert labels[0].startswith("NMD") and "*" in labels[0]  # known from an abstract alone
    frontier = figures.frontier(scores, r)
    assert "m2g kfac: success 80%, free 0 points, keyed 75 points" in frontier.alt
    assert len(frontier.figure.axes) == 4


def test_the_answer_names_the_best_and_who_is_surely_above_the_paper():
    _, r = planted_scores()
    said = science.answer(r, "m2g")
    assert said.startswith("within the limit KFAC 80% [70%, 90%]; the paper 50%")
    assert "random 20%" in said and "alone 25%" in said and said.endswith("the paper: KFAC")
    r["g2m"]["rows"] = {name: row | {"kept": None} for name, row in r["g2m"]["rows"].items()}
    assert science.answer(r, "g2m") == "no method keeps the limit on lost free prompts"
    table = science.listed(science.scores(r), "m2g")
    assert list(table.method) == ["NMD", "CAA", "KFAC", "RANDOM_DIRECTIONS"]
    assert np.isnan(table.success[1])
