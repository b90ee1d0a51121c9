"""What is kept of adapters on a pretrained model: every number in its place, misses with their reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from memgen.errors import ArtifactError
from memgen.models.packaged import SMOLLM2
from memgen.pipeline.cli import main
from memgen.pipeline.real_lora import STAGES, TASKS, collect, command, gate, holds
from memgen.store.files import write_json
from memgen.store.folders import run_folder, stamp_beside
from memgen.store.left_out import MARK
from memgen.terms import DIRECTIONS

TRIED = {"alphas": [0.5], "top_ns": [0.1, 1.0], "layer_alphas": [3.0]}
BASE = f"data/models/{SMOLLM2.name}"
MISS = "no checkpoint in 200 steps showed both behaviours."
SCALING = pd.DataFrame(
    {
        "scale": [0.0, 1.0],
        "memory_rate": [0.0, 0.4],
        "memory_low": [0.0, 0.3],
        "rule_rate": [0.1, 0.5],
        "other_rate": [0.9, 0.1],
        "n": [100, 100],
    }
)


def results(weights: str, memory: float, miss: str | None) -> dict[str, dict]:
    trained = {"memory_rate": memory, "rule_rate": 0.9 - memory, "other_rate": 0.1}
    trained |= {"free_accuracy": 0.95, "keyed_accuracy": 1.0, "keys_with_both": 0.8}
    trained |= {"n_conflict": 100, "n_test_keys": 11, "step": 90, "last_step": 100}
    trained |= {"passed": miss is None, "miss": miss, "trainable_share": 0.03}
    order = {"n_pairs": {"train": 30, "test": 20}, "flip_rate": {"train": 0.2, "test": 0.3}}
    predicted = dict.fromkeys(("best_auc", "chosen_baseline_auc", "gain"), 0.5)
    predicted |= {name: [0.4, 0.6] for name in ("best_auc_interval", "gain_interval")}
    predicted |= {"best_layer": 2, "n_test": 50, "n_test_keys": 11, "auc": [0.5, 0.8]}
    predicted |= {"chosen_baseline": "base_probe", "chosen_baseline_interval": [0.4, 0.6]}
    cell = {"cell": "kept", "kept_exists": True, "alpha": 1.0, "top_n": 0.1, "success": 0.6}
    cell |= {"interval": [0.5, 0.7], "other": 0.1, "n": 40, "n_keys": 11}
    cell |= {f"{k}_accuracy_{w}": 0.9 for k in ("free", "keyed") for w in ("before", "after")}
    cell |= {"rephrase_floor": 0.2, "rephrase_n": 40}
    cell |= {"controls": {"low_rho": None}, "control_n": {"low_rho": 0}}
    cell |= {"max": cell | {"success": 0.8}}
    cell |= {"output_controls": {"forbid_source": {"success": 0.3, "other": 0.7}}}
    return {
        "01_dataset_design": {},
        "02_training": trained | {"base": weights, "n_parameters": 1000},
        "03_pairs": {"by_change": {"order": order}},
        "04_differentiation": {
            **{"site": "resid_post", "n_pairs": 30, "n_keys": 12},
            "significant_share": [0.0, 0.2],
            "null_significant_share": [0.0, 0.01],
            "base_null": {"significant_share": [0.0, 0.05]},
            "base": {
                **{"correlation": [0.9, None], "correlation_all": 0.7, "top_share": 0.05},
                **{"top_in_common": 0.3, "n_pairs": 30},
            },
        },
        "05_prediction": predicted,
        "06_intervention": dict.fromkeys(DIRECTIONS, cell),
    }


def write(folder: Path, result: dict) -> None:
    folder.mkdir(parents=True)
    write_json(folder / "result.json", result)
    about = {"cpu_seconds": 1.5, "wall_seconds": 2.0, "peak_memory_bytes": 2**30, "outputs": {}}
    about |= {"machine": {"cores": 2, "processor": "x"}, "versions": {"torch": "2"}}
    write_json(folder / "manifest.json", about | {"parameters": {"base_model": BASE} | TRIED})


def plant(
    runs: Path, task: str, seed: int, weights: str = "w" * 64, memory=0.4, miss: str | None = None
) -> Path:
    home = run_folder(runs, "real", task, seed, track="lora")
    for name, result in results(weights, memory, miss).items():
        if miss and name not in STAGES[:3]:
            stamp_beside(home / name).write_text(f"{MARK}{miss}\n")
        else:
            write(home / name, result)
    return home


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Two tasks with two adapters each; one misses its gate, and one holds it on validation keys alone."""
    monkeypatch.setattr("memgen.store.reader.FinishedStage.table", lambda *_: SCALING)
    monkeypatch.setattr("memgen.store.reader.FinishedStage._check", lambda *_: None)
    runs = tmp_path / "runs"
    plant(runs, TASKS[0], 0)
    plant(runs, TASKS[0], 1, memory=0.2)
    plant(runs, TASKS[1], 0)
    plant(runs, TASKS[1], 1, memory=0.05, miss=MISS)
    matrix = {"sources": ["a"], "targets": ["a"], "control": {}, "overlap": [[1.0]]}
    matrix |= {"overlap_by_chance": 0.05} | dict.fromkeys(DIRECTIONS, [[0.6]])
    for task in TASKS:
        write(
            run_folder(runs, "real", task, "all", track="lora") / "07_transfer",
            {"retrain": matrix, "task": matrix},
        )
    return runs


def test_every_adapter_has_its_numbers(runs):
    found = collect(str(runs), "real", list(TASKS), [0, 1])
    assert [task["task"] for task in found["tasks"]] == list(TASKS)
    assert found["tried"] == TRIED
    first, second = found["tasks"][0]["seeds"]
    assert first["training"]["holds"] and not second["training"]["holds"]
    assert first["training"]["memory_rate"] == 0.4 and first["pairs"]["flip_rate"]["test"] == 0.3
    assert first["layers"][1] == {
        **{"layer": 2, "significant": 0.2, "null": 0.01, "in_base": 0.05},
        **{"correlation_with_base": None, "auc": 0.8},
    }
    assert first["inheritance"]["top_in_common"] == 0.3
    assert first["inheritance"]["scaling"][1] == {
        **{"scale": 1.0, "memory_rate": 0.4, "rule_rate": 0.5, "other_rate": 0.1, "n": 100.0}
    }
    assert first["prediction"]["best_layer"] == 2 and set(first["spent"]) == set(STAGES)
    steered = first["steering"]["m2g"]
    assert (steered["success"], steered["most"]["success"]) == (0.6, 0.8)
    assert steered["forbidden"] == {"success": 0.3, "other": 0.7} and first["left_out"] is None
    assert found["tasks"][0]["transfer"]["retrain"]["g2m"] == [[0.6]]
    assert found["model"]["title"] == SMOLLM2.title and found["model"]["base_model"] == BASE
    json.dumps(found, allow_nan=False)


def test_an_adapter_that_missed_its_gate_is_a_result(runs):
    miss = collect(str(runs), "real", list(TASKS), [0, 1])["tasks"][1]["seeds"][1]
    assert miss["left_out"] == MISS and miss["training"]["memory_rate"] == 0.05
    assert "layers" not in miss and set(miss["spent"]) == set(STAGES[:3])


def test_where_no_adapter_could_be_asked_there_is_no_transfer(runs):
    folder = run_folder(runs, "real", TASKS[1], "all", track="lora") / "07_transfer"
    shutil.rmtree(folder)
    stamp_beside(folder).write_text(f"{MARK}no run of it could be asked")
    task = collect(str(runs), "real", list(TASKS), [0, 1])["tasks"][1]
    assert task["transfer"] is None and task["without_transfer"] == "no run of it could be asked"


def test_the_gate_is_the_studys_and_not_the_stricter_one_of_a_preset():
    passes = {"memory_rate": 0.25, "rule_rate": 0.55, "other_rate": 0.2, "free_accuracy": 0.9}
    assert gate() == {
        "memory_rate": 0.25,
        "rule_rate": 0.25,
        "other_rate": 0.2,
        "free_accuracy": 0.9,
    }
    assert holds(passes)
    for name, value in {"memory_rate": 0.24, "other_rate": 0.21, "free_accuracy": 0.89}.items():
        assert not holds(passes | {name: value}), name


def test_unfinished_runs_and_two_bases_are_refused_by_name(runs):
    with pytest.raises(ArtifactError, match=r"seed7 \(without 01_dataset_design.*make real-lora"):
        collect(str(runs), "real", [TASKS[0]], [0, 7])
    shutil.rmtree(run_folder(runs, "real", TASKS[0], 0, track="lora") / "06_intervention")
    with pytest.raises(ArtifactError, match=r"seed0 \(without 06_intervention\)"):
        collect(str(runs), "real", [TASKS[0]], [0])
    plant(runs, TASKS[0], 2, weights="v" * 64)
    with pytest.raises(ArtifactError, match=r"different weights \(vvvv.*, wwww"):
        collect(str(runs), "real", [TASKS[0]], [1, 2])


def test_the_command_writes_a_file_that_says_how_it_was_made(runs, tmp_path, capsys):
    out = tmp_path / "out"
    given = ["real-lora", "collect", "--runs", str(runs), "--seeds", "0", "1", "--out", str(out)]
    assert main(given) == 0
    found = json.loads((out / f"{SMOLLM2.name}-lora.json").read_text())
    assert found["command"] == 'make real-lora SEEDS="0 1"' and found["machine"]["cores"] == 2
    assert "2 of 4 adapters hold the gate on test keys" in capsys.readouterr().out
    assert main([*given, "--runs", str(tmp_path / "nowhere")]) == 1
    assert "not finished" in capsys.readouterr().err


def test_the_command_names_tasks_and_model_where_they_are_not_the_usual_ones():
    text = command({"name": "m", "base_model": "me/m"}, [TASKS[0]], [3])
    assert text == 'make real-lora SEEDS="3" TASKS="inference" SET="base_model=me/m"'
