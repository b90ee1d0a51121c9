from memgen.labs import transfer

"""Transfer: a model's own shift on itself is exactly its own result; matrices have the shape they
say.
"""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from planted import Planted, PlantedAlike
from safetensors.numpy import save_file

from memgen import tasks
from memgen.config.analyses import TransferParameters
from memgen.errors import StudyError
from memgen.labs.transfer import (
    apply_sources,
    input_folders,
    matrix,
    model_names,
    pooled,
    read_direction,
    retrain_direction,
)
from memgen.models.build import save_model
from memgen.steering.cells import Cell, cell_shift
from memgen.steering.steering import Steering, steering_prompts, summary
from memgen.store.files import write_json
from memgen.terms import DIRECTIONS, SIGN

ONE = 1 / 16


def source(arrays, sign=1.0, alpha=1.0, chosen_on=()) -> dict:
    return {
        "nmd": sign * arrays["nmd.resid_post"],
        "rho": sign * arrays["rho.resid_post"],
        "site": "resid_post",
        "chosen_on": frozenset(chosen_on),
        "cells": {direction: Cell(ONE, alpha) for direction in DIRECTIONS},
    }


@pytest.fixture
def target(planted, planted_direction):
    """`(steering, answered)` of the planted model whose test keys are like the others."""
    model, tokenizer, task, _, answered = planted(PlantedAlike)
    return (
        Steering(
            model,
            tokenizer,
            task,
            "resid_post",
            planted_direction["nmd.resid_post"],
            planted_direction["rho.resid_post"],
        ),
        answered,
    )


def test_on_the_same_model_it_is_exactly_its_own_result(target, planted_direction):
    steering, answered = target
    for alpha in (1.0, 2.0, 4.0):
        table = apply_sources(
            steering,
            {"itself": source(planted_direction, alpha=alpha)},
            answered,
            50,
            2,
            np.random.default_rng(0),
        )
        for direction, row in table.set_index("direction").iterrows():
            rows = steering_prompts(answered, "test", direction, 50)
            own = summary(
                steering.outcomes(
                    SIGN[direction]
                    * cell_shift(Cell(ONE, alpha), steering.nmd, steering.rho)[None],
                    rows,
                )[0],
                direction,
            )
            assert {name: row[name] for name in own} == own
        assert set(table.direction) == set(DIRECTIONS)


def test_every_source_has_a_row_a_direction_and_its_own_control(target, planted_direction):
    steering, answered = target
    sources = {
        "itself": source(planted_direction),
        "reversed": source(planted_direction, sign=-1.0),
        "too far": source(planted_direction, alpha=4.0),
    }
    table = apply_sources(steering, sources, answered, 20, 3, np.random.default_rng(0))
    assert len(table) == 6
    found = table.set_index(["source", "direction"])
    assert found.success["itself", "m2g"] == found.success["itself", "g2m"] == 1.0
    assert found.success["reversed", "m2g"] == found.success["reversed", "g2m"] == 0.0
    assert found.success["too far", "m2g"] == 0.0 and found.other["too far", "m2g"] == 1.0
    assert (found.control < 0.5).all() and (found.n == 20).all()
    for row in table.itertuples():  # the counts by key give the rates again
        by_key = pd.DataFrame(row.by_key)
        assert by_key.n.sum() == row.n and by_key.wins.sum() == round(row.success * row.n)
        assert by_key.control_n.sum() == 3 * row.n and by_key.control_wins.sum() == round(
            row.control * 3 * row.n
        )


def test_keys_that_a_source_was_chosen_on_do_not_count(target, planted_direction):
    steering, answered = target
    keys = sorted(answered.key[answered.split == "test"].unique())
    sources = {
        "knows none": source(planted_direction),
        "knows one": source(planted_direction, chosen_on=keys[:1]),
        "knows all": source(planted_direction, chosen_on=keys),
    }
    found = apply_sources(steering, sources, answered, 20, 2, np.random.default_rng(0)).set_index(
        ["source", "direction"]
    )
    assert set(found.index.get_level_values("source")) == {"knows none", "knows one"}
    for direction in DIRECTIONS:
        rows = steering_prompts(answered, "test", direction, 20)
        assert found.n["knows none", direction] == len(rows)
        assert found.n["knows one", direction] == (rows.key != keys[0]).sum() < len(rows)


def test_nothing_to_steer_is_an_empty_table_with_its_columns(target, planted_direction):
    steering, answered = target
    nothing = answered[answered.split != "test"]
    table = apply_sources(
        steering, {"itself": source(planted_direction)}, nothing, 20, 1, np.random.default_rng(0)
    )
    assert table.empty and {"source", "direction", "success", "n", "control"} <= set(table.columns)
    assert pooled(table.assign(target="x")).empty
    assert matrix(table.assign(target="x"), ["itself"], ["x"], "m2g", "success") == [[None]]


def test_a_retrains_own_direction_comes_from_its_train_keys(planted):
    model, tokenizer, _, _, answered = planted(Planted)
    cells = {direction: Cell(ONE, 1.0) for direction in DIRECTIONS}
    found = retrain_direction(model, tokenizer, answered, "resid_post", cells)
    assert found["nmd"].shape == found["rho"].shape == (2, 8) and found["cells"] == cells
    # train keys are `near`: 0 where memory answers, 1 where the rule does; the test keys' -3 and 2
    # would give 5
    np.testing.assert_allclose(found["nmd"], np.array([[1.0] + [0.0] * 7] * 2), atol=1e-6)
    with pytest.raises(StudyError, match="no flip pair on train keys"):
        retrain_direction(
            model, tokenizer, answered[answered.split != "train"], "resid_post", cells
        )


CELLS = pd.DataFrame(
    [
        {"source": "a", "target": "a", "direction": "m2g", "success": 0.9, "n": 10, "control": 0.1},
        {"source": "a", "target": "b", "direction": "m2g", "success": 0.4, "n": 10, "control": 0.2},
        {"source": "b", "target": "b", "direction": "m2g", "success": 0.8, "n": 10, "control": 0.0},
        {"source": "b", "target": "b", "direction": "g2m", "success": 0.3, "n": 10, "control": 0.0},
    ]
)


def test_the_matrix_is_source_by_target():
    assert matrix(CELLS, ["a", "b"], ["a", "b"], "m2g", "success") == [[0.9, 0.4], [None, 0.8]]
    assert matrix(CELLS, ["b", "a"], ["b"], "m2g", "control") == [[0.0], [0.2]]
    assert matrix(CELLS, ["a", "b"], ["a", "b"], "g2m", "success") == [[None, None], [None, 0.3]]


def test_pooling_sums_prompts_not_rates():
    rows = pd.DataFrame(
        [
            {
                "source": "a",
                "target": "t",
                "direction": "m2g",
                "success": 1.0,
                "n": 10,
                "control": 0.0,
            },
            {
                "source": "a",
                "target": "t",
                "direction": "m2g",
                "success": 0.0,
                "n": 30,
                "control": 0.4,
            },
            {
                "source": "a",
                "target": "t",
                "direction": "g2m",
                "success": 0.5,
                "n": 4,
                "control": 0.5,
            },
        ]
    )
    found = pooled(rows).set_index("direction")
    assert (found.n["m2g"], found.success["m2g"], found.control["m2g"]) == (
        40,
        0.25,
        pytest.approx(0.3),
    )
    assert found.success["g2m"] == 0.5 and found.interval["g2m"][0] < 0.5 < found.interval["g2m"][1]


# -- the whole stage -------------------------------------------------------------------------------
class PlantedTwin(PlantedAlike):
    name = "planted-twin"


@pytest.fixture
def runs(tmp_path, planted, planted_direction, monkeypatch):
    """The folders that seeds 0 and 1 of two tasks and one retrain leave: one base for all of seed
    0, another for seed 1's `planted`.
    """
    monkeypatch.setitem(tasks.TASKS, "planted", PlantedAlike)
    monkeypatch.setitem(tasks.TASKS, "planted-twin", PlantedTwin)
    model, tokenizer, task, frame, answered = planted(PlantedAlike)
    chosen = {"alpha": 1.0, "top_n": ONE}
    for name, run, base in [
        ("planted", "seed0", "one"),
        ("planted", "seed1", "two"),
        ("planted", "seed0-retrain1", "one"),
        ("planted-twin", "seed0", "one"),
        ("planted-twin", "seed1", None),
    ]:
        home = tmp_path / "smoke" / name / run
        for stage in (
            "01_dataset_design",
            "02_training",
            "03_pairs",
            "04_differentiation",
            "06_intervention",
        ):
            (home / stage).mkdir(parents=True)
        write_json(
            home / "01_dataset_design" / "manifest.json",
            {"parameters": {"task": "planted", "seed": int(home.name[4]), "n_keys": 10}},
        )
        frame.to_parquet(home / "01_dataset_design" / "instances.parquet")
        save_model(home / "02_training" / "model", model, tokenizer)
        write_json(home / "02_training" / "result.json", {"base": base})
        write_json(
            home / "02_training" / "manifest.json",
            {"parameters": {"task": "planted", "dtype": "float32", "device": "cpu"}},
        )
        write_json(home / "03_pairs" / "manifest.json", {"parameters": {"n_rephrasings": 2}})
        answered.to_parquet(home / "03_pairs" / "answered.parquet")
        save_file(planted_direction, home / "04_differentiation" / "arrays.safetensors")
        write_json(
            home / "06_intervention" / "result.json",
            {"site": "resid_post", "m2g": chosen, "g2m": chosen},
        )
    return tmp_path


@pytest.fixture
def parameters(runs) -> TransferParameters:
    return TransferParameters(
        task="planted",
        preset="smoke",
        runs=str(runs),
        seeds=[0, 1],
        n_retrains=1,
        tasks=["planted", "planted-twin"],
        n_prompts=15,
        n_control_draws=2,
    )


def test_the_whole_stage(parameters):
    result, table = transfer.study(parameters)
    names = ["seed 0", "seed 1", "seed 0, retrain 1"]
    retrain, task = result["retrain"], result["task"]
    assert retrain["sources"] == retrain["targets"] == names and retrain["base"] == [
        "one",
        "two",
        "one",
    ]
    assert task["sources"] == ["planted", "planted-twin"] and task["targets"] == ["planted"]
    for part, shape in ((retrain, (3, 3)), (task, (2, 1))):
        for direction in DIRECTIONS:
            # all are one and the same planted model: everything transfers
            np.testing.assert_array_equal(np.array(part[direction], dtype=float), np.ones(shape))
            assert (
                np.array(part["control"][direction]).shape == shape
                and np.max(part["control"][direction]) < 1
            )
    shared = table[table.kind == "retrain"].set_index(["source", "target", "direction"]).shared_base
    assert shared["seed 0", "seed 0, retrain 1", "m2g"] and not shared["seed 0", "seed 1", "m2g"]
    pd.testing.assert_frame_equal(table, transfer.study(parameters)[1])
    json.dumps(result, allow_nan=False)


def test_what_a_run_hands_over(runs, planted_direction):
    found = read_direction(runs / "smoke" / "planted" / "seed0")
    assert found["site"] == "resid_post" and found["cells"]["g2m"] == Cell(ONE, 1.0)
    answered = pd.read_parquet(
        runs / "smoke" / "planted" / "seed0" / "03_pairs" / "answered.parquet"
    )
    assert found["chosen_on"] == set(answered.key) - set(answered.key[answered.split == "test"])
    np.testing.assert_array_equal(found["nmd"], planted_direction["nmd.resid_post"])


def test_every_folder_that_is_read_is_an_input(parameters, runs, monkeypatch):
    """Take away any one of the inputs, and the stage cannot be made."""
    assert [name for name, *_ in model_names(parameters)] == [
        "seed 0",
        "seed 1",
        "seed 0, retrain 1",
    ]
    inputs = {folder.relative_to(runs / "smoke").as_posix() for folder in input_folders(parameters)}
    assert {
        "planted/seed0/06_intervention",
        "planted/seed1/03_pairs",
        "planted/seed0-retrain1/02_training",
        "planted-twin/seed1/04_differentiation",
    } <= inputs
    read = set()
    for name in ("read_json", "load_trained"):
        real = getattr(transfer, name)
        monkeypatch.setattr(transfer, name, lambda path, real=real: (read.add(path), real(path))[1])
    transfer.study(parameters)
    stages = {path if path.name[:2].isdigit() else path.parent for path in read}
    assert {path.relative_to(runs / "smoke").as_posix() for path in stages} <= inputs
