"""Lab 15 on planted models: in one what differs is what acts, in the other what differs is idle."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from computing import planted_lab, run_cell, write_stage
from memgen.errors import ParameterError
from memgen.figures import correlates as figures
from memgen.labs import correlates as science
from memgen.labs.across_tasks import across_tasks
from memgen.labs.carried import PAPER
from memgen.models.build import save_model
from memgen.pipeline.plan import Plan
from memgen.presets import stage_parameters
from memgen.rivals.compared import Halves
from memgen.store.artifacts import Result
from memgen.store.folders import input_folders
from memgen.tasks import TASKS
from memgen.terms import DIRECTIONS
from planted import PlantedAlike
from steered import ONE

GIVEN = {
    "n_prompts": 30,
    "n_side_effect_prompts": 8,
    "doses": [0.03, 0.24],  # too short to turn anything, and long enough
    "n_random": 2,
    "n_null": 200,
    "fit_steps": 24,
    "fit_batch_size": 16,
    "n_retrains": 1,
}
SURE = 24.0  # a fit by gradient needs a model whose answers are likely, and not only the likeliest
LONG = ([6, 7], [6.0, -7.0])  # alike in all states: what the final norm divides by hardly changes
IDLE = ([4, 5], [2.0, -2.0])  # no logit reads them, and their mean is 0


class Spared(PlantedAlike):
    """The rule where coordinate 0 is above 0, else the memory. Free and keyed prompts end with words of their
    own, so a vector can turn conflict prompts and leave these.
    """

    STATE = {"near-memory": -0.5, "near-rule": 0.5, "far-memory": -3.0, "free-rule": 3.0}

    def free(self, rng):
        return replace(super().free(rng), prompt=f"word{rng.integers(30)} free-rule")

    def keyed(self, rng, key):
        one = super().keyed(rng, key)
        return replace(one, prompt=one.prompt.replace("near-memory", "far-memory"))


def acting(made: tuple, idle: bool = False) -> tuple:
    """A model of these prompts in which coordinate 0 acts; `idle`: two others differ by more, for nothing."""
    model, token = copy.deepcopy(made[0]), made[1].convert_tokens_to_ids
    with torch.no_grad():
        states, read = model.transformer.wte.weight, model.lm_head.weight.zero_()
        for word, value in Spared.STATE.items():
            states[token(word), 0] = value
            states[token(word), LONG[0]] = torch.tensor(LONG[1])
            if idle and word.startswith("near"):
                states[token(word), IDLE[0]] = torch.tensor(IDLE[1]) * (1 if value > 0 else -1)
        for answer, sign in (("M", -1), ("R", 1)):
            read[token(answer), :2] = SURE * torch.tensor([sign, 1.0])
        read[made[1].eos_token_id, 3] = SURE
    return model, *made[1:]


def patched(rates: list[float]) -> dict:
    """Lab 12's flip rates of test keys, by kind."""
    flips = {
        "residual": rates,
        "attention": [0.0, 0.0],
        "mlp": [0.5, 0.5],
        "position": [[0.25, 0.5]],
    }
    return {"test": flips, "n": 10}


def done(made: tuple, runs, maps: dict, **given):
    """Lab 15 after its computing cell was run; the retrain of its model is the model itself."""
    cell = {"top_n": ONE, "alpha": 1.0}
    steered = {"site": "resid_post", "positions": "all", **dict.fromkeys(DIRECTIONS, cell)}
    left = {
        "04_differentiation": Result({"site": "resid_post"}, {}, {"arrays": maps}),
        "06_intervention": Result(steered),
        "12_patching": Result({"m2g": patched([0.5, 1.0]), "g2m": {"test": None, "n": 0}}),
    }
    lab = planted_lab("15_correlates", runs, made, GIVEN | given, left)
    who = {"task": "planted", "seed": made[2].seed, "preset": "smoke", "runs": str(runs)}
    trained = Result(
        {"free_accuracy": 1.0, "keyed_accuracy": 1.0, "base": None, "miss": None},
        files={"model": lambda folder: save_model(folder, made[0], made[1])},
    )
    write_stage("02_training", who | {"retrain": 1}, trained)
    lab = type(lab)(lab.name, lab.parameters)  # opened when its inputs are there
    run_cell(lab)
    return lab


@pytest.fixture(scope="module")
def alike_lab(tmp_path_factory, planted, planted_direction):
    """What differs is what acts."""
    return done(acting(planted(Spared)), tmp_path_factory.mktemp("alike"), planted_direction)


@pytest.fixture(scope="module")
def apart_lab(tmp_path_factory, planted, planted_direction):
    """What differs most is idle."""
    return done(
        acting(planted(Spared), idle=True), tmp_path_factory.mktemp("apart"), planted_direction
    )


@pytest.fixture(params=["alike", "apart"])
def lab(request):
    return request.getfixturevalue(f"{request.param}_lab")


def test_where_the_difference_acts_it_turns_answers_and_all_point_one_way(alike_lab):
    r = alike_lab.result
    assert min(r["cosines"]["difference_probe"]) == pytest.approx(1)
    for direction in DIRECTIONS:
        x = r[direction]
        assert x["methods"]["difference"]["success"] == 1.0
        assert x["methods"]["held"]["success"] == 1.0
        assert x["held_difference"] > 0.25 and x["held_refit"] > 0.95
        # a fit moves all coordinates that help a little, and what lies along the difference is enough
        assert x["parts"]["along"]["success"] == 1.0
        assert x["parts"]["along"]["share"] == pytest.approx(x["held_difference"] ** 2)
        # the coordinate is all that varies
        assert x["shares"]["difference"][0] == pytest.approx(1)


def test_where_the_difference_is_idle_what_acts_is_another_direction(apart_lab, alike_lab):
    r, same = apart_lab.result, alike_lab.result
    for direction in DIRECTIONS:
        x = r[direction]
        assert x["methods"]["held"]["success"] == 1.0 and x["held_refit"] > 0.95
        # what lies along the difference is not needed, and does nothing by itself
        assert x["parts"]["across"]["success"] == 1.0 and x["parts"]["along"]["success"] == 0.0
        assert abs(x["held_difference"]) < 0.25 < same[direction]["held_difference"]
        assert x["shares"]["held"][0] < 0.1 and x["shares"]["difference"][0] == pytest.approx(1)
        # one direction is all that varies, and it is not the one that acts
        assert x["shares"]["as_states"][0] == pytest.approx(1)
    assert r["size"][0] > same["size"][0]


def test_numbers_are_whole_and_a_retrain_that_is_the_model_says_the_same(lab):
    r, doses = lab.result, lab.table("doses")
    json.dumps(r, allow_nan=False)
    assert r["layers"] == [1, 2] and len(doses) == 2 * len(science.TITLES) * len(GIVEN["doses"])
    for direction in DIRECTIONS:
        methods = r[direction]["methods"]
        assert list(methods) == list(science.TITLES)
        for name, one in methods.items():
            row = doses[
                (doses.direction == direction)
                & (doses.method == name)
                & (doses.dose == one["dose"])
            ].iloc[0]
            assert row.success == one["success"] and row.layer == one["layer"]
            carried = r["transfer"][direction][name]
            assert carried["own"] == one["success"] and 0 < carried["n"] <= GIVEN["n_prompts"]
            if one["success"] in (0.0, 1.0) and name != "random":  # all prompts are alike
                assert carried["success"] == one["success"]
        assert r["transfer"][direction][PAPER]["success"] == 1.0
        assert methods["held"]["layer"] == methods["random"]["layer"] == r[direction]["layer"]
    assert all(holds for _, holds in science.checks(r))


def test_vectors_are_left_for_others(lab):
    arrays = lab.arrays("vectors")
    assert arrays["difference"].shape == arrays["held_m2g"].shape == (2, 8)
    for direction in DIRECTIONS:
        x, place = lab.result[direction], lab.result[direction]["layer"] - 1
        held = arrays[f"held_{direction}"][place]
        assert np.linalg.norm(held) == pytest.approx(x["length"])
        assert science.cosine(held, arrays["difference"][place]) == pytest.approx(
            x["held_difference"]
        )


def test_on_other_models_vectors_stay_as_they_are_and_at_home_turn_what_the_lab_says(
    alike_lab, apart_lab, monkeypatch
):
    """Two models stand for two tasks. What acts is coordinate 0 in both; what differs is idle in one."""
    monkeypatch.setitem(TASKS, "planted", Spared)
    labs = {"alike": alike_lab, "apart": apart_lab}
    table = across_tasks({name: lab.run for name, lab in labs.items()})
    assert len(table) == 2 * 2 * 2 * len(science.TITLES)
    assert table.shared_base[table.source == table.target].all()
    found = table.set_index(["source", "target", "direction", "method"]).success
    for direction in DIRECTIONS:
        for name, lab in labs.items():
            for method in science.TITLES:
                home = lab.result[direction]["methods"][method]["success"]
                assert found[name, name, direction, method] == home
        assert found["apart", "alike", direction, "held"] == 1.0
        assert found["alike", "apart", direction, "held"] == 1.0
        assert found["apart", "alike", direction, "difference"] == 0.0


def test_patching_is_read_and_not_made_again(lab):
    x = lab.result["m2g"]["patching"]
    assert x["residual"] == [0.5, 1.0] and x["before"] == [0.5, None] and x["n"] == 10
    assert lab.result["g2m"]["patching"] is None
    three = patched([0.1, 0.9, 0.5])["test"] | {"attention": [0.2] * 3, "mlp": [0.3, 0.2, 0.1]}
    lab_12 = SimpleNamespace(result=dict.fromkeys(DIRECTIONS, {"test": three, "n": 4}))
    found = science.beside_patching(lab_12, (0, 1, 2), [1.0, 2.0, 3.0])["g2m"]
    assert found["rank_residual"] == pytest.approx(0.5) and found["rank_mlp"] == pytest.approx(-1)
    assert found["rank_attention"] is None and found["before"] == [0.5, None, None]
    assert science.beside_patching(None, (0,), [1.0]) == dict.fromkeys(DIRECTIONS)


def test_figures_and_words_say_what_was_measured(lab):
    r = lab.result
    drawings = [
        figures.angles(r),
        figures.components(r),
        figures.plausible(lab.table("doses"), r),
        figures.layers(r),
    ]
    figures.plt.close("all")
    assert [d.name for d in drawings] == ["angles", "components", "plausible", "layers"]
    said = " ".join([d.alt for d in drawings] + [science.answer(r, d) for d in DIRECTIONS])
    assert "None" not in said and "nan" not in said
    assert "patched, before 0.50, undefined" in drawings[3].alt
    assert f"at layer {r['m2g']['layer']} two fits of the held vector" in drawings[0].alt
    assert "On a retrain the held vector turns" in said
    table = science.overview(r)
    assert len(table) == 2 * len(science.TITLES) and table["on a retrain"].notna().all()
    alone = r | {"transfer": dict.fromkeys(DIRECTIONS)}
    assert "No retrain" in science.answer(alone, "m2g")
    assert science.overview(alone)["on a retrain"].isna().all()


def test_validation_keys_choose_and_test_keys_report(planted):
    """The gentler dose of equals is chosen, and then the earlier layer."""
    rates = np.array([[0.2, 0.8, 0.8], [0.1, 0.8, 0.9]])
    assert (science.best(rates).place, science.best(rates).dose) == (1, 2)
    rates[1, 2] = 0.8
    chosen = science.best(rates)
    assert (chosen.place, chosen.dose) == (0, 1) and chosen.by_layer.tolist() == [0.8, 0.8]
    assert chosen.success == 0.8


def test_halves_of_the_keys_share_none():
    halves = Halves({"a": 0, "b": 1, "c": 0})
    rows = pd.DataFrame({"key": ["a", "b", "c", "a"]})
    assert [list(halves.rows(rows, half).key) for half in (0, 1)] == [["a", "c", "a"], ["b"]]
    assert halves.rows(rows, None) is rows
    free = pd.DataFrame({"key": [""] * 5, "prompt": range(5)})
    assert [list(halves.rows(free, half).prompt) for half in (0, 1)] == [[0, 2, 4], [1, 3]]
    assert halves.mask(["b", "a"], 1).tolist() == [True, False] and halves.mask(["b"], None).all()


def test_retrains_are_of_models_from_scratch_alone(tmp_path):
    given = {"task": "inference", "seed": 3, "preset": "smoke", "runs": str(tmp_path)}
    p = stage_parameters("15_correlates", given | {"n_retrains": 2})
    read = input_folders("15_correlates", p)
    assert [f.parent.name for f in read if "-retrain" in f.parent.name] == [
        "seed3-retrain1",
        "seed3-retrain2",
    ]
    alone = stage_parameters("15_correlates", given | {"n_retrains": 0})
    assert all(f.parent.name == "seed3" for f in input_folders("15_correlates", alone))
    plan = Plan("smoke", ["inference"], [3, 4], str(tmp_path), settings={"n_retrains": 2})
    numbers = [plan.parameters("15_correlates", "inference", "scratch", s) for s in (3, 4)]
    assert [one["n_retrains"] for one in numbers] == [2, 0]
    with pytest.raises(ParameterError, match="doses"):
        stage_parameters("15_correlates", given | {"doses": [1.0, 0.5]})
