"""Transfer: a model's own shift on itself is exactly its own result; matrices have the shape they
say.
"""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from computing import run_cell, write_stage
from memgen import tasks
from memgen.errors import StudyError
from memgen.figures import transfer as figures
from memgen.labs.transfer import (
    Source,
    answers,
    apply_sources,
    basis_of,
    matrix,
    model_names,
    overlaps,
    overlaps_by_layer,
    pooled,
    read_models,
    retrain_source,
)
from memgen.models.build import save_model
from memgen.neurons.nmd import NeuronMaps
from memgen.pipeline.notebook import Lab
from memgen.presets import stage_parameters
from memgen.steering.cells import Cell, cell_shift
from memgen.steering.steering import Steering, steering_prompts, summary
from memgen.store.artifacts import Result
from memgen.store.reader import FinishedRun, FinishedStage
from memgen.terms import DIRECTIONS, POSITIONS, SIGN
from planted import Planted, PlantedAlike

ONE = 1 / 16


def source(arrays, sign=1.0, alpha=1.0, chosen_on=()) -> Source:
    maps = NeuronMaps.of({name: sign * values for name, values in arrays.items()}, "resid_post")
    return Source(maps, dict.fromkeys(DIRECTIONS, Cell(ONE, alpha)), frozenset(chosen_on))


def test_without_a_base_no_run_shares_one_with_a_run_of_another_task(tmp_path):
    trained = Result({"base": None, "miss": None})
    runs = []
    for task in ("inference", "cipher-tagged"):
        who = {"task": task, "seed": 0, "preset": "smoke", "runs": str(tmp_path)}
        runs.append(FinishedRun(write_stage("02_training", who, trained).folder.parent))
    assert basis_of(runs[0]) == basis_of(runs[0]) != basis_of(runs[1])
    assert str(tmp_path) not in basis_of(runs[0])  # it stands in results


@pytest.fixture
def target(planted, planted_direction):
    """`(steering, answered)` of the planted model whose test keys are like the others."""
    model, tokenizer, task, _, answered = planted(PlantedAlike)
    return Steering(model, tokenizer, task, source(planted_direction).maps), answered


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


def test_a_retrains_own_direction_comes_from_its_train_keys(planted, planted_direction):
    model, tokenizer, _, _, answered = planted(Planted)
    parent = source(planted_direction)
    found = retrain_source(model, tokenizer, answered, parent, "order")
    assert found.maps.nmd.shape == found.maps.rho.shape == (2, 8) and found.cells == parent.cells
    assert found.chosen_on == set(answered.key[answered.split != "test"])
    # train keys are `near`: 0 where memory answers, 1 where the rule does; the test keys' -3 and 2
    # would give 5
    np.testing.assert_allclose(found.maps.nmd, np.array([[1.0] + [0.0] * 7] * 2), atol=1e-6)
    with pytest.raises(StudyError, match="no flip pair on train keys"):
        retrain_source(model, tokenizer, answered[answered.split != "train"], parent, "order")


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
    values = [("m2g", 1.0, 10, 0.0), ("m2g", 0.0, 30, 0.4), ("g2m", 0.5, 4, 0.5)]
    rows = pd.DataFrame(values, columns=["direction", "success", "n", "control"])
    rows = rows.assign(source="a", target="t")
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


RUNS = [  # task, seed, retrain, base
    ("planted", 0, 0, "one"),
    ("planted", 1, 0, "two"),
    ("planted", 0, 1, "one"),
    ("planted-twin", 0, 0, "one"),
    ("planted-twin", 1, 0, None),
]


@pytest.fixture
def lab(request, tmp_path, planted, planted_direction, monkeypatch) -> Lab:
    """The lab over what seeds 0 and 1 of two tasks and one retrain leave: one base for all of seed
    0, another for seed 1's `planted`.
    """
    monkeypatch.setitem(tasks.TASKS, "planted", PlantedAlike)
    monkeypatch.setitem(tasks.TASKS, "planted-twin", PlantedTwin)
    model, tokenizer, _, frame, answered = planted(PlantedAlike)
    chosen = {"alpha": 1.0, "top_n": ONE}
    at = {"site": "resid_post", "positions": getattr(request, "param", "all")}
    for task, seed, retrain, base in RUNS:
        who = {"task": task, "seed": seed, "preset": "smoke", "runs": str(tmp_path)}
        left = {
            "01_dataset_design": Result({}, {"instances": frame}),
            "03_pairs": Result({}, {"answered": answered}),
            "04_differentiation": Result({}, arrays={"arrays": planted_direction}),
            "06_intervention": Result(at | {"m2g": chosen, "g2m": chosen}),
        }
        for stage, result in left.items() if not retrain else ():
            more = {"01_dataset_design": {"n_keys": 10}, "03_pairs": {"n_rephrasings": 2}}
            write_stage(stage, who | more.get(stage, {}), result)
        trained = Result(
            {"base": base, "miss": None},
            files={"model": lambda path: save_model(path, model, tokenizer)},
        )
        write_stage("02_training", who | {"retrain": retrain}, trained)
    given = {
        "task": "planted",
        "preset": "smoke",
        "runs": str(tmp_path),
        "seeds": [0, 1],
        "n_retrains": 1,
        "tasks": ["planted", "planted-twin"],
        "n_prompts": 15,
        "n_control_draws": 2,
    }
    return Lab("07_transfer", stage_parameters("07_transfer", given))


def test_the_layers_alone_give_two_strangers_something_in_common():
    """Two models that crowd into one layer, each at random there: the formula against many draws."""
    rng = np.random.default_rng(0)
    crowded = [np.stack([rng.random((400, 30)), 2 + rng.random((400, 30))], 1) for _ in range(2)]
    drawn = [overlaps([one, other], 0.25)[0][1] for one, other in zip(*crowded)]
    expected = overlaps_by_layer([crowded[0][0], crowded[1][0]], 0.25)
    assert expected[0][1] == expected[1][0] == pytest.approx(0.5)  # 15 of 30, and none of the rest
    assert np.mean(drawn) == pytest.approx(0.5, abs=0.02)
    spread = [rng.random((4, 500)) for _ in range(2)]  # as many in every layer: the plain level
    assert overlaps_by_layer(spread, 0.05)[0][1] == pytest.approx(0.05, abs=0.01)


def test_the_whole_stage(lab):
    run_cell(lab)
    result, table = lab.result, lab.table("cells")
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
    again = run_cell(lab)["compute"]().tables["cells"]
    written = ["by_key", "interval", "control_interval"]  # a file has arrays where these are lists
    pd.testing.assert_frame_equal(table.drop(columns=written), again.drop(columns=written))
    assert table.by_key.map(list).tolist() == again.by_key.tolist()
    json.dumps(result, allow_nan=False)
    assert [line.partition(" (")[0] for line in answers(table)] == [
        f"{d}: own neurons 100%; same base 100%" for d in DIRECTIONS
    ]
    drawings = [
        figures.retrains(retrain, "scratch", table),
        figures.tasks(task),
        figures.overlap(retrain, task),
    ]
    assert [drawing.name for drawing in drawings] == ["retrains", "tasks", "overlap"]
    assert "seed 0 to seed 1: 100% / 100%" in drawings[0].alt
    assert drawings[1].caption.endswith("Tasks that share a base: planted, planted-twin.")
    by_layer = retrain["overlap_by_layer"][0][1]
    assert 0 < by_layer < 1 and task["overlap_by_layer"][0] == [pytest.approx(by_layer)]
    assert f"seed 0 and seed 1: 100% ({by_layer:.0%})" in drawings[2].alt
    assert "planted: 100%" in drawings[2].alt
    assert "All share one base" in figures.retrains(retrain, "lora", table).caption
    figures.plt.close("all")


@pytest.mark.parametrize("lab", POSITIONS, indirect=True)
def test_shifts_are_where_lab_06_chose_them(lab):
    """Its strengths are of those positions: elsewhere a model would not steer itself as it did there."""
    (positions,) = {one.steering.positions for one in read_models(lab.parameters).values()}
    assert (
        positions == FinishedRun.of(lab.parameters, seed=0)["06_intervention"].result["positions"]
    )


def test_what_a_run_hands_over(lab, planted_direction):
    run = FinishedRun.of(lab.parameters, seed=0)
    found, answered = Source.of(run), run.answered()
    assert found.maps.site == "resid_post" and found.cells["g2m"] == Cell(ONE, 1.0)
    assert found.chosen_on == set(answered.key) - set(answered.key[answered.split == "test"])
    np.testing.assert_array_equal(found.maps.nmd, planted_direction["nmd.resid_post"])


def test_every_folder_that_is_read_is_an_input(lab, monkeypatch):
    """Nothing is read that the manifest does not name."""
    assert [name for name, *_ in model_names(lab.parameters)] == [
        "seed 0",
        "seed 1",
        "seed 0, retrain 1",
    ]
    study = lab.stage.folder.parents[2]
    inputs = {folder.relative_to(study).as_posix() for folder in lab.stage.input_folders}
    assert {
        "planted/seed0/06_intervention",
        "planted/seed1/03_pairs",
        "planted/seed0-retrain1/02_training",
        "planted-twin/seed1/04_differentiation",
    } <= inputs
    read, real = set(), FinishedStage.__init__
    monkeypatch.setattr(
        FinishedStage,
        "__init__",
        lambda stage, folder: (read.add(folder), real(stage, folder))[1],
    )
    run_cell(lab)
    found = {folder.relative_to(study).as_posix() for folder in read - {lab.stage.folder}}
    assert found <= inputs and "planted/seed0-retrain1/02_training" in found
