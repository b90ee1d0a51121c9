"""Lab 06, on a model whose behaviour is planted: one coordinate decides, and how far it has to go is
known.
"""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from computing import planted_lab, run_cell
from memgen.errors import StudyError
from memgen.figures import intervention as figures
from memgen.labs.intervention import (
    answer,
    by_setting,
    doses,
    raced,
    rephrasing,
    said,
    side_by_side,
)
from memgen.models.generate import first_token_log_probabilities, tokenize_prompts
from memgen.neurons.nmd import NeuronMaps
from memgen.steering.cells import Cell, cell_shift, cumulative_norm, grid, random_shift
from memgen.steering.controls import CONTROLS, Draws, controls
from memgen.steering.side_effects import Elsewhere
from memgen.steering.steering import Steering, steering_prompts, summary
from memgen.steering.trial import Trial
from memgen.store.artifacts import Result
from memgen.terms import CODE, DIRECTIONS, OUTPUT_CONTROLS, SIGN, SITES
from planted import Planted, PlantedAlike

M, R, X = 0, 1, 2
ONE = 1 / 16  # share that is one neuron of 2 layers x 8


GIVEN = {
    "alphas": [1.0, 4.0],
    "top_ns": [ONE, 0.3],
    "n_prompts": 60,
    "n_control_draws": 2,
    "n_control_prompts": 60,
    "n_random_directions": 3,
    "n_free_validation": 20,
    "n_side_effect_prompts": 8,
}


@pytest.fixture
def far(planted, planted_direction):
    """Validation keys need a gentle shift, test keys a strong one: `(steering, data set,
    answered)`.
    """
    return setup(planted(), planted_direction)


def setup(made, arrays, site="resid_post", positions="all"):
    model, tokenizer, task, frame, answered = made
    maps = NeuronMaps.of(arrays, site)
    return Steering(model, tokenizer, task, maps, positions), frame, answered


class Settled(Planted):
    """Its prompts have a setting: how far the model's answer is from turning."""

    def nearness(self, instance):
        return -1.0 if "far" in instance.prompt.split()[-1] else 1.0


def test_success_among_prompts_of_one_setting(far):
    """A shift of one turns every near prompt, and no far one."""
    steering, _, answered = far
    assert by_setting(Trial(steering, "m2g", Cell(ONE, 1.0), answered.iloc[:4]), {}) is None
    steering.task = Settled(10, 0)
    rows = pd.concat(steering_prompts(answered, split, "m2g", 20) for split in ("train", "test"))
    trial = Trial(steering, "m2g", Cell(ONE, 1.0), rows.reset_index(drop=True))
    won = trial.succeeds(trial.run([trial.shift])[0])
    found = by_setting(trial, {"steered": won, "none": np.zeros(len(won), dtype=bool)})
    assert [row["nearness"] for row in found] == [-1, 1]
    assert [row["steered"]["success"] for row in found] == [0, 1]
    assert [row["steered"]["n"] for row in found] == rows.split.value_counts()[
        ["test", "train"]
    ].tolist()
    assert all(row["none"]["success"] == 0 for row in found)


@pytest.fixture
def lab(tmp_path, planted_direction):
    """`run(made, answered, **given) -> (result, tables)`: the lab's computing cell on what is planted."""
    maps = Result({"site": "resid_post"}, arrays={"arrays": planted_direction})

    def run(made, answered=None, **given):
        made = made if answered is None else (*made[:4], answered)
        lab = planted_lab(
            "06_intervention", tmp_path, made, GIVEN | given, {"04_differentiation": maps}
        )
        run_cell(lab)
        result = {name: value for name, value in lab.result.items() if name != "timings"}
        assert lab.result["timings"]["seconds"] >= 0
        names = ("races", "controls", "doses", "outcomes")
        return result, {name: lab.table(name) for name in names}

    return run


# -- the shift -------------------------------------------------------------------------------------
def test_the_grid_holds_every_cell_the_gentlest_first(planted_direction):
    nmd, rho = planted_direction["nmd.resid_post"], planted_direction["rho.resid_post"]
    cells = grid([1.0, 2.0, 4.0], [ONE, 0.3, 1.0], nmd, rho)
    assert len(set(cells)) == 9
    norms = [np.linalg.norm(cell_shift(cell, nmd, rho)) for cell in cells]
    assert norms == sorted(norms)


def test_the_shift_is_the_papers_formula(planted_direction):
    nmd, rho = planted_direction["nmd.resid_post"], planted_direction["rho.resid_post"]
    shift = cell_shift(Cell(0.25, 3.0), nmd, rho)
    chosen = np.abs(rho) >= np.sort(np.abs(rho), axis=None)[-4]
    np.testing.assert_allclose(shift, np.where(chosen, 3.0 * np.sign(rho) * np.abs(nmd), 0))
    assert (cell_shift(Cell(0.25, 3.0), nmd, -rho) == -shift).all()


def test_a_random_shift_keeps_layers_and_norms_but_not_the_neurons():
    reference = np.random.default_rng(9).normal(size=(3, 16)) * [[0], [1], [3]]
    reference[:, ::3] = 0
    draws = [random_shift(reference, np.random.default_rng(seed)) for seed in range(5)]
    for one in draws:
        assert np.array_equal(np.sort(one, axis=1), np.sort(reference, axis=1))
        assert cumulative_norm(one) == pytest.approx(cumulative_norm(reference))
    assert len({tuple(np.flatnonzero(one)) for one in draws}) > 1


def test_the_cumulative_norm_is_that_of_the_sum_over_layers():
    assert cumulative_norm(np.array([[3.0, 0], [0, 4]])) == 5
    assert cumulative_norm(np.array([[3.0, 0], [-3, 0]])) == 0


# -- what it does ----------------------------------------------------------------------------------
@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("positions", ["all", "decision"])
def test_alpha_0_is_the_identity(planted, planted_direction, site, positions):
    steering, _, answered = setup(planted(), planted_direction, site, positions)
    codes = steering.outcomes(np.zeros((1, 2, 8)), answered)[0]
    assert codes.tolist() == [CODE[name] for name in answered.behavior]


@pytest.mark.parametrize(
    "split, direction, alpha, expected",
    [
        ("validation", "m2g", 1.0, R),
        ("validation", "m2g", 4.0, X),
        ("test", "m2g", 1.0, M),
        ("test", "m2g", 4.0, R),
        ("validation", "g2m", 1.0, M),
        ("validation", "g2m", 4.0, M),
        ("test", "g2m", 1.0, R),
        ("test", "g2m", 4.0, M),
    ],
)
def test_a_planted_direction_flips_behaviour_both_ways(far, split, direction, alpha, expected):
    steering, _, answered = far
    rows = steering_prompts(answered, split, direction, 60)
    codes = steering.outcomes(
        SIGN[direction] * cell_shift(Cell(ONE, alpha), steering.nmd, steering.rho)[None], rows
    )
    assert len(rows) > 10 and (codes == expected).all()


def test_prompts_to_steer_show_the_behaviour_to_be_changed_and_are_of_their_split(far):
    answered = far[2]
    for direction, behavior in (("m2g", "memorization"), ("g2m", "generalization")):
        for split in ("validation", "test"):
            rows = steering_prompts(answered, split, direction, 1000)
            assert (
                (rows.behavior == behavior).all()
                and (rows.split == split).all()
                and rows.prompt.is_unique
            )
            some = steering_prompts(answered, split, direction, 7)
            assert len(some) == 7 and some.key.nunique() == rows.key.nunique()


# -- the choice ------------------------------------------------------------------------------------
def best(steering, cells, rows, direction):
    """The cell that wins a race."""
    shifts = SIGN[direction] * np.stack([steering.shift(cell) for cell in cells])
    return cells[steering.race(shifts, rows, direction).best]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_cell_is_chosen_on_validation_keys_only(far, planted, lab, direction):
    """By construction the gentle cell wins on validation keys and fails on test keys, where the
    strong one would win.
    """
    steering, _, answered = far
    cells = grid([1.0, 4.0], [ONE], steering.nmd, steering.rho)
    best_on = {
        split: best(
            steering, cells, steering_prompts(answered, split, direction, 60), direction
        ).alpha
        for split in ("validation", "test")
    }
    assert best_on == {"validation": 1.0, "test": 4.0}

    result, _ = lab(planted(), top_ns=[ONE])
    found = result[direction]
    assert (found["alpha"], found["top_n"]) == (1.0, ONE)
    assert (found["validation_success"], found["success"]) == (1.0, 0.0)
    assert found["cell"] == ("kept" if direction == "m2g" else "max")  # g2m turns free prompts, too
    assert found["n"] == len(steering_prompts(answered, "test", direction, 60))

    without_train = answered[answered.split != "train"]  # they give the output's direction alone
    again = lab(planted(), without_train, top_ns=[ONE])[0]
    for one in (again, result):
        for name in ("output_controls", "control_other"):
            del one["m2g"][name], one["g2m"][name]
    assert again == result


def test_of_equally_good_cells_the_gentler_is_chosen(far):
    steering, _, answered = far
    rows = steering_prompts(answered, "validation", "g2m", 60)  # -1 and -4 both succeed always
    for cells in ([Cell(ONE, 4.0), Cell(ONE, 1.0)], [Cell(ONE, 1.0), Cell(ONE, 4.0)]):
        ordered = sorted(cells, key=grid([1.0, 4.0], [ONE], steering.nmd, steering.rho).index)
        assert best(steering, ordered, rows, "g2m").alpha == 1.0


# -- the whole stage -------------------------------------------------------------------------------
SHIFTS = {*CONTROLS, "best_of_random"}
FLOORS = ("order", "content")


def test_the_stage_reports_what_was_planted(planted, lab):
    result, tables = lab(planted(PlantedAlike))
    assert result["site"] == "resid_post" and result["identity_holds"]
    assert 0 < result["race_rows"] <= result["grid_rows"] and result["free_rows"] > 0
    for direction in DIRECTIONS:
        found = result[direction]
        assert found["success"] == 1.0 and found["other"] == 0.0 and found["alpha"] == 1.0
        assert found["interval"][0] > 0.8 and found["interval"][1] == 1.0
        assert set(found["controls"]) == set(found["control_draws"]) == SHIFTS
        assert (
            found["controls"]["low_rho"] == 0.0
            and found["control_n"]["random_sign"] == 2 * found["n"]
        )
        assert set(found["output_controls"]) == set(OUTPUT_CONTROLS)
        assert found["by_construction"] == found["output_controls"]["force_target"]["success"] == 1
        assert set(found["control_other"]) == {
            *SHIFTS,
            *OUTPUT_CONTROLS,
            *(f"rephrasing_{change}" for change in FLOORS),
        }
        assert found["norm"] == found["cumulative_norm"] == pytest.approx(1.0)  # one neuron
        assert found["control_cumulative_norm"]["random_sign"] == pytest.approx(1.0)
        assert found["n_keys"] == 3 and found["best_of_random"]["n_directions"] == 3
        for change in FLOORS:
            floor = found[f"rephrase_{change}"]
            assert floor["rate"] > 0.8 and floor["n"] > 0  # this task's rephrasings flip
        assert found["rephrase_floor"] == found["rephrase_order"]["rate"]
    again = planted(PlantedAlike)[4].assign(same="but to be computed again")
    assert lab(planted(PlantedAlike), again)[0] == result
    assert all(set(table.direction) == set(DIRECTIONS) for table in tables.values())
    json.dumps(result, allow_nan=False)


def test_every_rate_of_the_stage_is_that_of_its_answers(planted, lab):
    """The answers one by one, the table and the result say the same of every kind."""
    result, tables = lab(planted(PlantedAlike), n_control_prompts=7)
    by_kind = tables["outcomes"].groupby(["direction", "kind"])
    by_kind = by_kind.agg(
        success=("success", "mean"),
        other=("other", "mean"),
        n=("key", "size"),
        draws=("draw", "nunique"),
    )
    for direction in DIRECTIONS:
        found, of_kind = result[direction], by_kind.loc[direction]
        rates = {"steered": found, "steered_max": found["max"], **found["output_controls"]}
        rates |= {
            name: {"success": rate, "n": found["control_n"][name]}
            for name, rate in found["controls"].items()
        }
        for change in FLOORS:
            floor = found[f"rephrase_{change}"]
            rates[f"rephrasing_{change}"] = {"success": floor["rate"], **floor}
        table = tables["controls"]
        table = table[table.direction == direction].set_index("name")
        assert set(rates) == set(of_kind.index) == set(table.index)
        for name, rate in rates.items():
            row = of_kind.loc[name]
            assert (rate["success"], rate["n"]) == (pytest.approx(row.success), row.n), name
            shown = table.loc[name]
            assert (shown.success, shown.n, shown.draws) == (row.success, row.n, row.draws), name
            assert shown.other == pytest.approx(row.other)
            assert shown.low <= shown.success <= shown.high
            told = found["control_other"].get(name, rate.get("other"))
            assert told == pytest.approx(row.other), name
        assert set(table.family) == {"steered", "output", "shift", "floor"}


def test_both_cells_are_reported_and_the_limit_decides_which_leads(planted, lab):
    """+1 turns memory to rule and leaves free prompts alone; -1 turns free prompts, too."""
    result, tables = lab(planted(PlantedAlike))
    kept, unkept = result["m2g"], result["g2m"]
    assert kept["cell"] == "kept" and kept["kept_exists"] and kept["kept"] == kept["max"]
    assert kept["free_accuracy_after"] == kept["validation_free_after"] == 1.0
    assert unkept["cell"] == "max" and not unkept["kept_exists"] and unkept["kept"] is None
    assert unkept["free_accuracy_after"] == unkept["validation_free_after"] == 0.0
    for found in (kept, unkept):
        leading = found[found["cell"]]
        assert {name: found[name] for name in leading} == leading
        assert found["free_accuracy_before"] == found["keyed_accuracy_before"] == 1.0
    everything = lab(planted(PlantedAlike), collateral_limit=0.999)[0]["g2m"]
    assert everything["cell"] == "max"  # all are lost, and all but one in a thousand may be
    races = tables["races"][tables["races"].direction == "g2m"]
    assert races.free_seen.max() == unkept["validation_n_free"] and not races.free_right.any()
    assert races.out.all() and unkept["race"]["risk"]["kept"] == 0  # all are seen to lose
    table = side_by_side(result)
    assert list(table) == ["m2g, max", "m2g, kept", "g2m, max"]
    assert table.loc["success"].tolist() == [1.0, 1.0, 1.0]


def test_tuned_rivals_stand_beside_the_steered_rows(planted, lab):
    """One layer and a fitted vector, each by success alone and within the limit, in table and result."""
    tuned = ["one_layer", "one_layer_kept", "optimised", "optimised_kept"]
    asked = {"layer_alphas": [0.001, 1.0], "optimised_steps": 2, "optimised_prompts": 6}
    result, tables = lab(planted(PlantedAlike), **asked)
    table = tables["controls"]
    for direction in DIRECTIONS:
        found = result[direction]
        assert list(found["rivals"]) == tuned and set(found["control_other"]) >= set(tuned)
        rows = table[table.direction == direction]
        assert rows.name.tolist()[:6] == ["steered", "steered_max", *tuned]
        assert rows[rows.family == "rival"].name.tolist() == tuned
        assert found["rivals"]["one_layer"]["success"] == 1.0
        one = found["rivals"]["one_layer_kept"]
        assert one["success"] == (1.0 if direction == "m2g" else 0.0)
        assert one["validation_free_after"] == 1.0 and one["validation_n_free"] == 10
        assert found["rivals"]["optimised"]["steps"] in (1, 2)
    drawn = figures.control_bars(table).figure
    labels = [label.get_text() for ax in drawn.axes for label in ax.get_yticklabels()]
    assert not {"one_layer_kept", "optimised", "optimised_kept"} & set(labels)
    json.dumps(result, allow_nan=False)


def test_the_floors_are_the_rephrasings_of_each_kind(planted):
    answered = planted(PlantedAlike)[4]
    bars, rows = rephrasing(answered, "m2g")
    test = answered[(answered.split == "test")]
    memory = test[(test.rephrasing == 0) & (test.behavior == "memorization")].group
    for change in FLOORS:
        others = test[test.group.isin(memory) & (test.change == change)]
        bar = bars[f"rephrasing_{change}"]
        assert bar.n == len(others) > 10
        assert bar.success == (others.behavior == "generalization").mean()
        assert (rows.kind == f"rephrasing_{change}").sum() == bar.n
    nothing, _ = rephrasing(answered[answered.change != "order"], "m2g")
    assert nothing["rephrasing_order"].n == 0
    assert nothing["rephrasing_content"] == bars["rephrasing_content"]


@pytest.mark.parametrize("split", ["validation", "test"])
def test_nothing_to_steer_is_said(planted, lab, split):
    made = planted()
    answered = made[4]
    emptied = answered[~((answered.split == split) & (answered.behavior == "generalization"))]
    message = f"direction g2m.*generalization answers on {split} keys.*n_conflict_per_key"
    with pytest.raises(StudyError, match=message):
        lab(made, emptied)


def test_controls_run_every_draw_on_its_share_of_the_prompts(alike, planted_direction, monkeypatch):
    steering, _, answered = alike
    seen, real = [], steering.sweep
    monkeypatch.setattr(
        steering, "sweep", lambda shifts, rows: (seen.append(shifts), real(shifts, rows))[1]
    )
    cell = Cell(0.3, 2.0)
    rows = steering_prompts(answered, "test", "g2m", 20)
    pairs = planted_direction["memory"], planted_direction["rule"]
    trial = Trial(steering, "g2m", cell, rows)
    bars, outcomes = controls(trial, pairs, Draws(3, 10), np.random.default_rng(0))
    assert {bar.name: bar.draws for bar in bars} == dict.fromkeys(CONTROLS, 3) | {"low_rho": 1}
    for bar in bars:  # the answers one by one say the same
        one = outcomes[outcomes.kind == bar.name]
        assert len(one) == bar.n == (20 if bar.name == "low_rho" else 30)
        assert one.success.mean() == pytest.approx(bar.success)
        assert one.draw.nunique() == bar.draws and set(one.key) == set(rows.key)
        by_draw = one.groupby("draw").success.mean()
        if bar.draws > 1:
            assert bar.draw_range == pytest.approx((by_draw.min(), by_draw.max()))
    reference = cell_shift(cell, steering.nmd, steering.rho)
    (shifts,) = seen  # all of them in one sweep
    assert len(shifts) == 19
    for shift in shifts:
        far = cumulative_norm(shift) / cumulative_norm(reference)
        assert far == pytest.approx(1, abs=0.1 + 1e-6)


def test_doses_start_at_the_identity(alike):
    steering, _, answered = alike
    rows = steering_prompts(answered, "test", "m2g", 20)
    trial = Trial(steering, "m2g", Cell(ONE, 4.0), rows)
    table = doses(trial, [1.0, 4.0], np.random.default_rng(1)).set_index(["kind", "alpha"])
    for kind in ("steered", "random"):
        assert table.memorization[kind, 0.0] == 1.0
    assert table.generalization["steered", 1.0] == 1.0 and table.other["steered", 4.0] == 1.0
    np.testing.assert_allclose(table[["memorization", "generalization", "other"]].sum(axis=1), 1.0)


def test_side_effects(alike):
    steering, frame, answered = alike
    free, keyed = (
        frame[(frame.kind == "free") & (frame.split == "test")],
        frame[frame.kind == "keyed"],
    )
    conflict = steering_prompts(answered, "test", "m2g", 20)
    elsewhere = Elsewhere(steering, free, keyed)
    nothing, _ = elsewhere.side_effects(np.zeros((2, 8)), conflict)
    assert nothing == {
        "n_free": len(free),
        "n_keyed": len(keyed),
        "free_accuracy_before": 1.0,
        "free_accuracy_after": 1.0,
        "keyed_accuracy_before": 1.0,
        "keyed_accuracy_after": 1.0,
        "kl_free": 0.0,
        "kl_keyed": 0.0,
        "kl_conflict": 0.0,
    }
    shift = cell_shift(Cell(ONE, 1.0), steering.nmd, steering.rho)
    found, _ = elsewhere.side_effects(shift, conflict)
    # +1: free prompts stay with the rule, keyed prompts turn from their memory to it
    assert (found["free_accuracy_after"], found["keyed_accuracy_after"]) == (1.0, 0.0)
    kl = [found[f"kl_{name}"] for name in ("free", "keyed", "conflict")]
    assert min(kl) > 0 and kl[0] != kl[1]
    (before, after) = (
        first_token_log_probabilities(
            steering.model, *tokenize_prompts(steering.tokenizer, [f"word1 word2 near-{end}"])
        )[0].numpy()
        for end in ("memory", "rule")
    )  # as the blocks compute nothing, +1 makes the one of the other
    assert kl[1] == pytest.approx((np.exp(before) * (before - after)).sum(), rel=1e-4)
    assert not any(
        module._forward_hooks or module._forward_pre_hooks for module in steering.model.modules()
    )


# -- numbers ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "codes, direction, success, other",
    [
        ([R, R, M, X], "m2g", 0.5, 0.25),
        ([R, R, M, X], "g2m", 0.25, 0.25),
        ([[M, M], [M, X]], "g2m", 0.75, 0.25),
        ([X], "m2g", 0.0, 1.0),
    ],
)
def test_a_summary_counts_and_has_a_wilson_interval(codes, direction, success, other):
    found = summary(np.array(codes), direction)
    n = np.size(codes)
    assert (found["success"], found["other"], found["n"]) == (success, other, n)
    reference = binomtest(round(success * n), n).proportion_ci(method="wilson")
    assert found["interval"] == pytest.approx([reference.low, reference.high])


def test_a_summary_of_nothing_knows_nothing():
    assert summary(np.array([]), "m2g") == {
        "success": 0.0,
        "interval": [0.0, 1.0],
        "other": 0.0,
        "n": 0,
    }


# -- what the page says ----------------------------------------------------------------------------
def test_the_page_says_how_far_a_race_was_run_and_how_sure_it_is():
    race = {"alone": 9, "run": 1200, "grid": 15000, "free_run": 700, "free_grid": 25000}
    race["risk"] = {"max": 0.0123, "kept": 0.0}
    random = {"rows_run": 800, "grid_rows": 2500, "risk": 0.5}
    told = raced({"m2g": {"race": race, "best_of_random": random}}, "m2g")
    assert told == (
        "1,200 of the grid's 15,000 rows, and 700 of 25,000 on free prompts; that a better cell was"
        " lost: success alone chance of at most 1.2%, within the limit certainly not; random"
        " directions: 800 of 2,500 rows, chance of at most 50.0%"
    )
    assert said(1e-5) == "chance of at most 0.1%"  # no chance is said to be none


def test_figures_say_every_rate_and_the_answer_names_the_strongest_control(planted, lab):
    result, tables = lab(planted(PlantedAlike))
    drawn = {
        "grid": figures.grid_heatmaps(tables["races"], result),
        "controls": figures.control_bars(tables["controls"]),
        "cells": figures.two_cells(result),
        "dose": figures.dose_response(tables["doses"], result),
    }
    assert all(drawing.name == name and drawing.caption for name, drawing in drawn.items())
    said = "; ".join(
        f"{name}: {cell}"
        for name, cell in {
            "m2g max": "top 6%, alpha 1",
            "m2g kept": "top 6%, alpha 1",
            "g2m max": "top 6%, alpha 1",
            "g2m kept": "none",
        }.items()
    )
    assert f"chosen: {said}" in drawn["grid"].alt
    for row in tables["controls"].itertuples():
        told = f"{row.name} {row.success:.0%}, other {row.other:.0%}"
        assert told in drawn["controls"].alt
    assert "g2m max: change sides 100%, other 0%, free right 0%" in drawn["cells"].alt
    assert "g2m kept: none" in drawn["cells"].alt
    assert "a panel per direction" in drawn["dose"].alt
    x = result["m2g"] | {"controls": {"low_rho": 0.25, "random_sign": 0.5}}
    x["control_other"] = {"random_sign": 0.4}
    said = answer({"m2g": x}, "m2g")
    assert said.startswith("100% [") and "cell: kept" in said
    assert "strongest shift of the same size: random sign 50% (other 40%)" in said

    table = tables["controls"]  # a control that does not exist is drawn as none
    gone = table.name == "unembedding_all"
    table.loc[gone, ["success", "low", "high", "other"]] = np.nan
    assert figures.control_bars(table).alt.count("unembedding_all none, other none") == 2
