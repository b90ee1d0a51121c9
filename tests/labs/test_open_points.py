"""The reviewers' open points, on arrays with a planted truth and on a model of which it is known
what every shift does.
"""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from computing import planted_lab, run_cell
from memgen.errors import StudyError
from memgen.figures import open_points as figures
from memgen.labs.hybrid import COMBINATIONS, hybrid
from memgen.labs.open_points import (
    accuracy_table,
    along_alpha,
    answers,
    asymmetry,
    checks,
    commitment,
    directions_table,
    performance,
)
from memgen.stats.reported import by_key, rate
from memgen.steering.case import open_case
from memgen.steering.groups import (
    pairwise,
)
from memgen.store.artifacts import Result
from memgen.terms import DIRECTIONS, SIGN
from planted import PlantedAlike
from steered import CHOSEN, IDLE, RELEVANT, N, case_of

SMALL = {
    "n_prompts": N,
    "n_top": 6,
    "n_clusters": 3,
    "n_pairwise": 3,
    "alphas": [1.0, 4.0],
    "instruction_steps": 0,
    "n_hybrid": 12,
}


def intervened() -> dict:
    one = {
        **CHOSEN,
        "success": 1.0,
        "interval": [0.9, 1.0],
        "other": 0.0,
        "n": 30,
        "free_accuracy_after": 0.5,
        "keyed_accuracy_after": 0.25,
        "rephrase_floor": 0.5,
        "rephrase_n": 8,
    }
    return {"site": "resid_post", "positions": "all", "m2g": dict(one), "g2m": dict(one)}


# -- is the flip binary ----------------------------------------------------------------------------
@pytest.mark.parametrize("direction, at_4", [("m2g", "other"), ("g2m", "memorization")])
def test_margins_and_behaviours_follow_the_strength(alike, direction, at_4):
    case = case_of(alike, direction)
    result, table = along_alpha(alike[0], case, [1.0, 4.0])
    start, target = (
        ("memorization", "generalization")
        if direction == "m2g"
        else ("generalization", "memorization")
    )
    assert result["alphas"] == [0.0, 1.0, 4.0] and result["n"] == result["n_all"] == N
    assert result["behaviors"][start][0] == 1.0  # alpha 0 is the identity
    assert result["behaviors"][target][1] == 1.0 and result["behaviors"][at_4][2] == 1.0
    assert (
        result["sign_changes"]["once"]["share"] == 1.0
        and result["sign_changes"]["once"]["interval"][0] > 0.8
    )
    medians = SIGN[direction] * table.q50.to_numpy()
    assert (np.diff(medians) > 0).all() and (
        table[["q05", "q25", "q50", "q75", "q95"]].diff(axis=1).iloc[:, 1:] >= 0
    ).all(axis=None)
    other = result["other_answers"]
    assert other["neither"]["n"] == (N if at_4 == "other" else 0)  # X is neither
    assert other["neither"]["share"] == (1.0 if at_4 == "other" else None)


def test_an_answer_of_one_token_is_decided_by_it(alike):
    for direction in DIRECTIONS:
        found, table = commitment(alike[0], case_of(alike, direction))
        assert found["throughout"]["success"] == found["until_first_token"]["success"] == 1.0
        assert (
            found["after_first_token"]["success"] == 0.0
            and found["after_first_token"]["stays"] == 1.0
        )
        assert len(table) == 3 and (table.n == N).all() and found["throughout"]["interval"][0] > 0.8


def test_without_prompts_that_have_a_margin_there_is_n_0_and_no_number(alike):
    steering, _, answered = alike
    same = answered.assign(rule_answer="MR")  # both answers begin with M
    case = open_case(steering, same, "m2g", CHOSEN, 10)
    assert not case.distinct.any() and case.begin_differently is None
    result, table = along_alpha(steering, case, [1.0])
    assert (
        result["n"] == 0
        and result["n_all"] == 10
        and result["quantiles"][0] == [None] * 5
        and result["sign_changes"]["once"]["share"] is None
    )
    assert table.q50.isna().all()
    assert commitment(steering, case)[0]["throughout"]["mixed"] is None
    assert pairwise(steering, case, np.array([RELEVANT, IDLE[0]]), 0)["mean"] == {
        "value": None,
        "interval": None,
        "n": 0,
        "n_keys": 0,
    }


# -- asymmetry -------------------------------------------------------------------------------------
def test_a_planted_asymmetry_and_a_protecting_margin_are_found():
    rng, keys = np.random.default_rng(0), {d: np.repeat(np.arange(15), 10) for d in DIRECTIONS}
    margin = {"m2g": rng.normal(-4, 2, 150), "g2m": rng.normal(4, 2, 150)}
    success = {"m2g": np.abs(margin["m2g"]) < 4.5, "g2m": rng.random(150) < 0.2}
    distinct = {d: np.ones(150, bool) for d in DIRECTIONS}
    found = asymmetry(success, margin, distinct, keys, seed=0)
    assert found["difference"]["value"] == pytest.approx(
        success["m2g"].mean() - success["g2m"].mean()
    )
    low, high = found["difference"]["interval"]
    assert (
        0 < low < found["difference"]["value"] < high
        and found["difference"]["n"] == 300
        and found["difference"]["n_keys"] == 15
    )
    assert (
        found["m2g"]["auc"] == 0.0
        and found["g2m"]["interval"][0] < 0.5 < found["g2m"]["interval"][1]
    )
    assert found["m2g"]["n_success"] == success["m2g"].sum()


def test_an_asymmetry_without_prompts_or_with_one_outcome_is_none():
    keys = {"m2g": np.array(["a", "a", "b"]), "g2m": np.array([], dtype=object)}
    success = {"m2g": np.array([True, True, True]), "g2m": np.array([], dtype=bool)}
    margin, distinct = (
        {"m2g": np.array([1.0, 2.0]), "g2m": np.array([])},
        {
            "m2g": np.array([True, False, True]),
            "g2m": np.array([], bool),
        },
    )
    found = asymmetry(success, margin, distinct, keys, seed=0)
    assert (
        found["difference"]["value"] is None
        and found["g2m"]["auc"] is None
        and found["g2m"]["n"] == 0
    )
    assert (
        found["m2g"]["auc"] is None and found["m2g"]["n"] == 2
    )  # every one a success: nothing to tell apart
    json.dumps(found, allow_nan=False)


def test_rates_and_intervals_of_nothing_are_none():
    assert rate(np.array([], dtype=bool)) == {"share": None, "interval": None, "n": 0}
    assert rate([True, False], "accuracy")["accuracy"] == 0.5
    one_key = by_key(
        lambda values, weights: weights @ values / weights.sum(-1),
        np.array(["a", "a"]),
        np.array([1.0, 0.0]),
        seed=0,
    )
    assert one_key == {"value": 0.5, "interval": None, "n": 2, "n_keys": 1}


# -- performance and hybrids -----------------------------------------------------------------------
def test_performance_collects_what_others_measured_with_n(planted):
    frame = planted(PlantedAlike)[3]
    history = [
        {"free_accuracy": 0.1},
        {"free_accuracy": 0.8, "by_family": {"inference": 0.9, "cipher": 0.8}},
    ]
    trained = {"base_history": history, "free_accuracy": 0.7, "keyed_accuracy": 0.6}
    found = performance(trained, intervened(), frame, 4, "inference")
    assert found["base"]["free"]["accuracy"] == 0.9 and found["base"]["keyed"] == {
        "accuracy": None,
        "interval": None,
        "n": 0,
    }
    assert (
        found["base"]["free"]["n"] == found["dual"]["free"]["n"] == 10
        and found["dual"]["keyed"]["n"] == 20
        and found["m2g"]["free"]["n"] == 4
    )
    assert found["m2g"]["free"]["interval"][0] < 0.5 < found["m2g"]["free"]["interval"][1]
    assert (
        performance(trained | {"base_history": []}, intervened(), frame, 4, "inference")["base"][
            "free"
        ]["accuracy"]
        is None
    )


def test_a_model_that_reads_the_last_word_alone_answers_hybrids_as_it_does_prompts(alike, planted):
    steering, frame, _ = alike
    found = hybrid(steering.model, steering.tokenizer, steering.task, frame, 12, seed=0)
    assert set(found) == set(COMBINATIONS)
    for part in found.values():
        assert (
            part["n"] > 1
            and part["accuracy"] == part["alone"]["accuracy"] == 1.0
            and part["n_too_long"] == 0
        )
    model = planted(PlantedAlike)[0]
    spoiled = frame.assign(
        memory_answer=frame.memory_answer.str.replace("M", "X")
    )  # what is counted as right is the target
    assert (
        hybrid(model, steering.tokenizer, steering.task, spoiled, 12, seed=0)["reason_then_recall"][
            "accuracy"
        ]
        == 0.0
    )


def test_hybrids_that_do_not_fit_are_left_out_and_counted(alike, monkeypatch):
    steering, frame, _ = alike
    monkeypatch.setattr(
        steering.model.config, "n_positions", 9
    )  # keyed and free have 4 and 3 tokens, answer and end mark 2, an answer needs 2
    found = hybrid(steering.model, steering.tokenizer, steering.task, frame, 12, seed=0)
    assert found["recall_then_reason"] == {
        "accuracy": None,
        "interval": None,
        "n": 0,
        "alone": {"accuracy": None, "interval": None, "n": 0},
        "n_too_long": found["recall_then_reason"]["n_too_long"],
        "tokens": None,
    }
    assert found["recall_then_reason"]["n_too_long"] > 1
    assert (
        hybrid(
            steering.model,
            steering.tokenizer,
            steering.task,
            frame[frame.kind != "keyed"],
            12,
            seed=0,
        )["recall_then_recall"]["n"]
        == 0
    )


# -- the whole stage -------------------------------------------------------------------------------
@pytest.fixture
def stage(tmp_path, planted, planted_direction):
    """`run(made, arrays, site, **parameters)`: the lab whose own computing cell has run."""
    runs = iter(range(9))

    def run(made=None, arrays=planted_direction, site="resid_post", **changes):
        left = {
            "04_differentiation": Result({"site": site}, arrays={"arrays": arrays}),
            "06_intervention": Result(intervened()),
        }
        made, folder = made or planted(PlantedAlike), tmp_path / str(next(runs))
        lab = planted_lab("11_open_points", folder, made, SMALL | changes, left)
        run_cell(lab)
        return lab

    return run


def numbers_of(lab) -> dict:
    return {name: value for name, value in lab.result.items() if name != "timings"}


def test_the_stage_reports_what_was_planted_again_and_from_test_keys_only(stage, planted):
    lab = stage()
    result, tables = numbers_of(lab), [path.stem for path in lab.kept.folder.glob("*.parquet")]
    assert set(result) == {
        "clusters",
        "synergy",
        "binary",
        "commitment",
        "asymmetry",
        "instruction",
        "performance",
        "hybrid",
    }
    assert result["instruction"] is None and set(tables) == {"clusters", "binary", "commitment"}
    for direction in DIRECTIONS:
        assert (
            result["clusters"][direction]["chosen"]["success"]
            == result["commitment"][direction]["throughout"]["success"]
            == 1.0
        )
        assert result["clusters"][direction]["single"][0]["success"] == 1.0
    assert (
        result["asymmetry"]["difference"]["value"] == 0.0
        and result["clusters"]["n_neurons"] == 6
        and sum(result["clusters"]["layers"]) == 6
    )
    json.dumps(result, allow_nan=False)
    *model, frame, answered = planted(PlantedAlike)
    again = stage((*model, frame, answered[answered.split == "test"]))
    assert numbers_of(again) == result
    for name in tables:
        pd.testing.assert_frame_equal(lab.table(name), again.table(name))
    assert [holds for _, holds in checks(result)] == [True, True]


def test_a_shift_that_does_nothing_is_found_to_do_nothing(stage, planted_direction):
    rolled = {  # the top neuron is now an idle one
        name: array if name in ("memory", "rule") else np.roll(array, 5, axis=1)
        for name, array in planted_direction.items()
    }
    result = stage(arrays=rolled).result
    for direction in DIRECTIONS:
        assert (
            result["clusters"][direction]["chosen"]["success"] == 0.0
            and result["commitment"][direction]["throughout"]["stays"] == 1.0
        )
        assert result["binary"][direction]["sign_changes"]["never"]["share"] == 1.0


def test_states_of_another_site_are_refused(stage):
    with pytest.raises(StudyError, match="mlp_out.*resid_post"):
        stage(site="mlp_out")


def test_figures_and_answers_say_what_the_stage_found(stage):
    lab = stage(instruction_steps=1, instruction_batch_size=6)
    r = lab.result
    drawings = [
        figures.cluster_dots(lab.table("clusters"), r["clusters"]),
        figures.synergy_heatmaps(r["synergy"]),
        figures.margin_bands(lab.table("binary")),
        figures.commitment_bars(lab.table("commitment")),
        figures.instruction_bars(r["instruction"]),
        figures.hybrid_bars(r["hybrid"]),
    ]
    figures.plt.close("all")
    assert [drawing.name for drawing in drawings] == [
        "clusters",
        "synergy",
        "margins",
        "commitment",
        "instruction",
        "hybrid",
    ]
    assert "m2g throughout: 100% change sides, 0% stay, 0% other." in drawings[3].alt
    assert "steering 100%" in drawings[4].alt and "rephrasing 50%" in drawings[4].alt
    said = answers(r)
    assert said[0].startswith("from memory to rule: chosen shift 100%, all 6 top neurons 100%")
    assert said[2].endswith("steering 100%") and said[-1].startswith("m2g minus g2m: +0% [")
    without = answers(r | {"instruction": None})
    assert len(said) == len(without) + 2 == 7
    assert list(directions_table(r["asymmetry"]).index) == list(DIRECTIONS)
    accuracies = accuracy_table(r["performance"]).set_index("model")
    assert accuracies["keyed accuracy"]["m2g"] == 0.25 and accuracies["free n"]["dual"] == 10
    broken = r | {"commitment": {d: {"throughout": {"success": 0.5}} for d in DIRECTIONS}}
    assert [holds for _, holds in checks(broken)] == [False, True]
