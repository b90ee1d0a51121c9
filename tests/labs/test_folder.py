"""Labs on track lora over a base from a folder, as a hub holds it: as a user runs them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hub import hub_folder
from memgen.pipeline.plan import Plan
from memgen.stages import LABS
from memgen.store.folders import lab_folder
from memgen.store.left_out import reason_of
from memgen.store.reader import FinishedRun, FinishedStage
from memgen.terms import DIRECTIONS
from running import study
from taught_both import SMALL, asked_of, teach_both

TASKS, SEEDS, TRACK = ["inference", "arithmetic-tagged"], [0, 1], "lora"
LABS_OF_TRACK = [name for name, row in LABS.items() if TRACK in row.tracks]
#: labs about models from scratch, which no study runs on another track
EVIDENCE = ["09_confounds", "10_ablations", "11_open_points", "12_patching", "13_scoreboard"]
EVIDENCE += ["14_detection"]
#: shorter labs, and what preset real asks for
ASKED = {
    "n_permutations": 100,
    "n_resamples": 50,
    "n_studies": 20,
    "attention": "sdpa",
    "positions": "decision",
    "layer_alphas": [1.0],
}
DATA = {
    name: value
    for name, value in SMALL.items()
    if name.startswith(("n_", "contrast")) and name != "n_rephrasings"
}


def settings(base, more: dict | None = None) -> list[str]:
    given = SMALL | ASKED | {"base_model": str(base)} | (more or {})
    return [f"{name}={value}".replace(" ", "") for name, value in given.items()]


def words(runs, tasks: list[str], seeds: list[int]) -> list[str]:
    found = ["--preset", "smoke", "--tracks", TRACK, "--tasks", *tasks, "--runs", str(runs)]
    return [*found, "--seeds", *map(str, seeds), "--jobs", "1"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """What all labs of the track left, of two tasks and two seeds; the base that the adapters are on."""
    home = tmp_path_factory.mktemp("folder")
    teach_both(home / "model", TASKS, {"preset": "smoke", "track": TRACK} | DATA)
    study("labs", *words(home / "runs", TASKS, SEEDS), "--set", *settings(home / "model"))
    return home / "runs"


@pytest.mark.slow
def test_every_lab_of_the_track_ends_well(runs):
    plan = Plan("smoke", TASKS, SEEDS, str(runs), tracks=[TRACK])
    folders = [lab_folder(Path(stamp).stem, p) for stamp, p in plan.studied.items()]
    assert {folder.name for folder in folders} == set(LABS_OF_TRACK)
    for folder in folders:
        assert reason_of(folder) is None, reason_of(folder)
        FinishedStage(folder).verify()
    assert not list(runs.rglob("00_base*"))  # the study trains none where there is one


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_adapters_that_were_hardly_trained_are_their_base(runs, task):
    """And so each of them, which steers itself as lab 06 found, steers the other just as well."""
    run = FinishedRun(runs / "smoke" / TRACK / task / "seed0")
    assert run["02_training"].result["trainable_share"] < 0.5
    inherited = run["04_differentiation"].result["base"]
    assert inherited["correlation_all"] > 0.99 and inherited["top_in_common"] > 0.9
    found = run["06_intervention"].result
    assert found["identity_holds"] and found["positions"] == ASKED["positions"]
    matrix = FinishedRun(run.folder.with_name("all"))["07_transfer"].result["retrain"]
    assert matrix["sources"] == [f"seed {seed}" for seed in SEEDS]
    assert len(set(matrix["base"])) == 1
    for direction in DIRECTIONS:
        assert set(found[direction]["rivals"]) == {"one_layer", "one_layer_kept"}
        np.testing.assert_allclose(matrix[direction][0], found[direction]["success"], atol=0.1)
        assert matrix[direction][0][0] == pytest.approx(found[direction]["success"])


@pytest.mark.slow
@pytest.mark.parametrize("lab", EVIDENCE)
def test_a_lab_of_another_track_ends_well_where_it_is_asked_alone(runs, lab, tmp_path):
    own = ["--preset", "smoke", "--track", TRACK, "--task", TASKS[0], "--seed", str(SEEDS[0])]
    study("lab", lab, *own, "--runs", str(runs), "--out", str(tmp_path / "out.ipynb"))
    run = FinishedRun(runs / "smoke" / TRACK / TASKS[0] / f"seed{SEEDS[0]}")
    assert LABS[lab].tracks == ("scratch",) and run[lab].verify().exists


@pytest.mark.slow
def test_what_cannot_be_asked_of_a_model_that_shows_nothing_is_said_in_a_sentence(tmp_path):
    """A random base that few steps teach nothing passes an open gate; all its answers are others."""
    asked = asked_of({"task": TASKS[0], "preset": "smoke", "track": TRACK} | DATA)
    texts = [text for one in asked for text in (one.prompt, one.target)]
    base = hub_folder(tmp_path / "model", "gpt2", texts)
    gate = {"gate_memory": 0.0, "gate_rule": 0.0, "gate_other": 1.0, "attention": "eager"}
    runs = tmp_path / "runs"
    chosen = [*words(runs, TASKS[:1], [0]), "--labs", "05_prediction", "07_transfer"]
    study("labs", *chosen, "--set", *settings(base, gate))
    run = FinishedRun(runs / "smoke" / TRACK / TASKS[0] / "seed0")
    assert run["02_training"].result["other_rate"] == 1.0
    said = {name: reason_of(run.folder / name) for name in LABS_OF_TRACK[:6]}
    assert [name for name, why in said.items() if why is None] == LABS_OF_TRACK[:3]
    assert "fewer than two flip pairs on train keys" in said["04_differentiation"]
    assert "no conflict prompt of train keys shows memorization" in said["05_prediction"]
    assert said["06_intervention"] == said["04_differentiation"]
    together = reason_of(run.folder.with_name("all") / "07_transfer")
    assert together == f"task {TASKS[0]} has no run whose model could be asked"
