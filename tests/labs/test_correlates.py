"""Lab 15 on planted models: in one what differs is what acts, in the other what differs is idle."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch

from computing import planted_lab, run_cell, write_stage
from memgen.errors import ParameterError
from memgen.figures import correlates as figures
from memgen.labs import correlates as science
from memgen.labs.carried import PAPER
from memgen.models.build import save_model
from memgen.presets import stage_parameters
from memgen.store.artifacts import Result
from memgen.terms import DIRECTIONS, SIGN, START
from planted import PlantedAlike
from steered import ONE

GIVEN = {
    "n_prompts": 30,
    "n_side_effect_prompts": 8,
    "doses": [0.25, 0.5, 1.0],
    "n_random": 2,
    "n_null": 200,
    "fit_steps": 24,
    "fit_batch_size": 16,
    "n_retrains": 1,
}
IDLE = 5  # a coordinate that no logit reads
FAR = 4.0  # how far the behaviours differ in it: the coordinate that acts differs by 1


def with_an_idle_difference(made: tuple) -> tuple:
    """The planted model, whose states also differ, and by more, in a coordinate that does nothing."""
    model, tokenizer, *others = made
    model, token = copy.deepcopy(model), tokenizer.convert_tokens_to_ids
    with torch.no_grad():
        for word, sign in (("near-memory", -1), ("near-rule", 1)):
            model.transformer.wte.weight[token(word), IDLE] = sign * FAR / 2
    return model, tokenizer, *others


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
    steered = {"site": "resid_post", "positions": "all", **{d: cell for d in DIRECTIONS}}
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
    return done(planted(PlantedAlike), tmp_path_factory.mktemp("alike"), planted_direction)


@pytest.fixture(scope="module")
def apart_lab(tmp_path_factory, planted, planted_direction):
    """What differs most is idle."""
    made = with_an_idle_difference(planted(PlantedAlike))
    return done(made, tmp_path_factory.mktemp("apart"), planted_direction)


def test_x(alike_lab, apart_lab):
    for lab in (alike_lab, apart_lab):
        print(json.dumps({k: v for k, v in lab.result.items()}, indent=1)[:9000])
        print(lab.table("doses").to_string())
        print(science.overview(lab.result).to_string())
        print(science.answer(lab.result, "m2g"))
