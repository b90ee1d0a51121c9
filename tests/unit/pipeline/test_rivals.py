"""The whole scoreboard: which labs it runs with which methods, and what it collects from them."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from memgen.errors import ArtifactError
from memgen.pipeline.cli import main
from memgen.pipeline.plan import Plan
from memgen.pipeline.rivals import (
    BOARD,
    NUMBERS,
    bring_study,
    collect,
    home_of,
    numbers,
    plans_of,
    table_of,
)
from memgen.presets import stage_parameters
from memgen.rivals.roster import METHODS
from memgen.stages import LABS, with_their_inputs
from memgen.store.files import write_json

BOX, CELLS = ["14_detection"], "06_intervention"


def plan_of(*asked, track="scratch") -> Plan:
    (plan,) = plans_of(*asked, tracks=(track,)).values()
    return plan


@pytest.mark.parametrize("track", ["scratch", "lora"])
def test_it_is_the_recipe_of_the_study_with_every_method(track):
    """Labs before the scoreboard are asked as the study asks them: what it has finished serves here."""
    plan = plan_of(["inference"], [26], "runs", track=track)
    there = {BOARD, *NUMBERS} - {CELLS} if track == "scratch" else {BOARD, *BOX}
    assert {Path(stamp).stem for stamp in plan.targets()} == there
    study = Plan("laptop", ["inference"], [26], plan.runs, tracks=[track])

    def given(one, stage):
        return dict(stage_parameters(stage, one.parameters(stage, "inference", track, 26)))

    assert given(plan, BOARD)["n_candidates"] == 50
    assert (given(plan, BOARD)["methods"] == []) == (track == "scratch")
    assert (given(plan, BOARD) == given(study, BOARD)) == (track == "lora")
    for stage in with_their_inputs([CELLS]):
        assert given(plan, stage) == given(study, stage)


def test_it_begins_as_a_copy_of_what_the_study_has_finished(tmp_path):
    study = tmp_path / "laptop"
    kept = ("inference/seed26/02_training/result.json", ".made-by-memgen", ".snakemake/metadata/a")
    for name in kept:
        path = study / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (study / ".snakemake" / "locks").mkdir()
    own = (
        ".study.lock",
        ".settled.json",
        ".snakemake/locks/0",
        "inference/seed26/02_training.lock",
    )
    for name in own:
        (study / name).write_text("true of the study's folder alone")
    (tmp_path / "rivals" / ".laptop.coming").mkdir(parents=True)  # of a copy that was cut short
    assert bring_study(str(tmp_path), "laptop")
    home = Path(home_of(str(tmp_path))) / "laptop"
    found = {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}
    assert found == set(kept)
    assert [path.name for path in home.parent.iterdir()] == ["laptop"]
    (home / "inference/seed26/02_training/result.json").write_text("of this one")
    assert not bring_study(str(tmp_path), "laptop")  # it has begun
    assert (home / "inference/seed26/02_training/result.json").read_text() == "of this one"
    assert not bring_study(str(tmp_path), "another")  # no such study


def test_on_adapters_it_runs_where_it_is_named_and_in_no_whole_study():
    """With two methods of each kind; all that a study of that track runs stays as it is."""
    both = plans_of(["inference"], [26], "runs").values()
    boards = [p for plan in both for stamp, p in plan.studied.items() if Path(stamp).stem == BOARD]
    assert {p.track: bool(p.methods) for p in boards} == {"scratch": False, "lora": True}
    kinds = [METHODS[name].kind for p in boards for name in p.methods]
    assert kinds.count("steering") == kinds.count("editing") == 2
    whole = Plan("laptop", ["inference"], [26], "runs", tracks=["scratch", "lora"])
    found = [p.track for stamp, p in whole.studied.items() if Path(stamp).stem == BOARD]
    assert found == ["scratch"]
    box = Plan("laptop", ["inference"], [26], "runs", tracks=["lora"], labs=with_their_inputs(BOX))
    assert {Path(stamp).stem for stamp in box.targets()} == set(BOX)


def test_labs_that_a_study_runs_for_its_first_seed_run_for_all():
    def seeds(plan: Plan, name: str) -> list[int]:
        return sorted(p.seed for stamp, p in plan.studied.items() if Path(stamp).stem == name)

    whole = Plan("laptop", ["inference"], [28, 26, 27], "runs")
    asked = plan_of(["inference"], [28, 26, 27], "runs")
    alone = [name for name, row in LABS.items() if row.seeds == "first"]
    assert alone == ["15_correlates", "16_multiverse"]
    for name in alone:
        assert seeds(whole, name) == [28] and seeds(asked, name) == [26, 27, 28]
    assert seeds(whole, BOARD) == seeds(whole, BOX[0]) == [26, 27, 28]


@pytest.fixture
def runs(tmp_path) -> Path:
    """One run with a scoreboard of two methods, one that was left out."""
    home = tmp_path / "rivals" / "laptop" / "inference"
    rows = {"method": ["nmd", "kfac"], "direction": ["m2g", "m2g"], "success": [0.5, None]}
    for stage, result in {
        "02_training": {"passed": True},
        BOARD: {"timings": {"seconds": 9.0, "nmd.m2g": 4.5}},
        CELLS: {d: {"success": 0.4, "kept_exists": True, "n": 9} for d in ("m2g", "g2m")},
        "15_correlates": {
            "site": "resid_post",
            "layers": [1, 2],
            "n_fit": 400,
            "m2g": {"held_refit": 0.9, "methods": {"held": {"n": 80, "beyond": None}}},
            "timings": {"seconds": 20.0},
        },
    }.items():
        folder = home / "seed26" / stage
        folder.mkdir(parents=True)
        write_json(folder / "result.json", result)
        about = {"versions": {"torch": "2"}, "machine": "here", "parameters": {}}
        write_json(folder / "manifest.json", about)
    pd.DataFrame(rows).to_parquet(home / "seed26" / BOARD / "scores.parquet")
    return tmp_path


def test_a_row_per_method_with_what_it_took(runs, monkeypatch):
    monkeypatch.setattr("memgen.store.reader.check_files", lambda *_: None)  # no seals in this run
    table = collect(str(runs))
    assert list(table.columns[:3]) == ["track", "task", "seed"] and list(table.seed) == [26, 26]
    assert table.seconds[0] == 4.5 and pd.isna(table.seconds[1]) and pd.isna(table.success[1])
    out = runs / "out"
    main(["rivals", "collect", "--runs", str(runs), "--out", str(out)])
    assert len(pd.read_csv(out / "results.csv")) == 2
    about = json.loads((out / "about.json").read_text("utf8"))
    assert about["command"] == 'make rivals TASKS="inference" SEEDS="26" TRACKS="scratch"'


def test_the_numbers_of_the_other_labs_a_row_per_run(runs, monkeypatch):
    monkeypatch.setattr("memgen.store.reader.check_files", lambda *_: None)
    (row,) = numbers(str(runs), "laptop", "15_correlates").to_dict("records")
    assert row == {"track": "scratch", "task": "inference", "seed": 26, "n_fit": 400} | {
        "m2g.held_refit": 0.9,
        "m2g.methods.held.n": 80,
        "m2g.methods.held.beyond": None,
    }
    cells = numbers(str(runs), "laptop", CELLS)
    assert list(cells)[3:] == ["m2g.success", "m2g.kept_exists", "g2m.success", "g2m.kept_exists"]
    assert numbers(str(runs), "laptop", "16_multiverse").empty
    main(["rivals", "collect", "--runs", str(runs), "--out", str(runs / "out")])
    found = {path.name for path in (runs / "out").glob("*.csv")}
    assert found == {"results.csv", *(table_of(name) for name in (CELLS, "15_correlates"))}


def test_without_a_run_it_says_how_to_make_one(tmp_path):
    with pytest.raises(ArtifactError, match="make rivals"):
        collect(str(tmp_path))
