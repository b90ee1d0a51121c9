"""What is kept of a pretrained model's runs: every number in its place, unfinished runs refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from memgen.errors import ArtifactError
from memgen.models.packaged import GEMMA3, SMOLLM2
from memgen.pipeline.cli import main
from memgen.pipeline.real import STAGES, collect, command
from memgen.store.files import write_json

TRIED = {"alphas": [0.5], "top_ns": [0.1, 1.0], "layer_alphas": [3.0]}
BASE = f"data/models/{SMOLLM2.name}"
#: by key, the behaviours of its conflict prompts: memory 0.5, rule 0.25, other 0.25
SHOWN = {"a": "mmro", "b": "mmro", "c": "mror", "d": "mmmo"}
WORDS = {"m": "memorization", "r": "generalization", "o": "other"}


def answered() -> pd.DataFrame:
    rows = []
    for key, behaviours in SHOWN.items():
        for place, letter in enumerate(behaviours):
            about = {"key": key, "split": "test", "group": f"{key}{place}", "answer": " Rome."}
            about |= {"memory_answer": f" {key}", "rule_answer": " Rome", "behavior": WORDS[letter]}
            rows.append(about | {"prompt": f"{key} {place}, is", "rephrasing": 0, "change": ""})
    of_c = {**rows[8], "prompt": "c again, is", "behavior": WORDS["r"], "rephrasing": 1}
    rows.append(of_c | {"change": "order"})
    rows.append({**of_c, "split": "train", "prompt": "c, is", "change": "order"})
    long = {**of_c, "prompt": "a" * 50, "group": "a0", "key": "a", "change": "order"}
    return pd.DataFrame([*rows, long])


def results(weights: str) -> dict[str, dict]:
    forecast = {"auc": 0.7, "interval": [0.6, 0.8], "gain": 0.1, "gain_interval": [0.0, 0.2]}
    shift = {
        **{
            f"{kind}_accuracy_{when}": 0.9
            for kind in ("free", "keyed")
            for when in ("before", "after")
        },
        "alpha": 1.0,
        "top_n": 0.1,
        "success": 0.6,
    }
    direction = {
        **shift,
        "cell": "max",
        "kept_exists": False,
        "n_keys": 4,
        "max": shift,
        "rivals": {
            "instruction_1": {"success": 0.9},
            "one_layer": shift | {"layer": 2, "alpha": 4.0},
        },
    }
    split = {"train": 3, "validation": 2, "test": 4}
    order = {
        name: {"test": value}
        for name, value in (
            ("flip_rate", 0.3),
            ("flip_rate_key_interval", [0.2, 0.4]),
            ("n_rephrasings", 40),
        )
    }
    return {
        "01_dataset_design": {"n_known": 9, "n_asked": 12, "n_keys": split},
        "02_training": {
            "base": weights,
            "n_parameters": 1000,
            "keys_with_both": 0.75,
            "n_test_keys": 4,
            "free_accuracy": 0.6,
            "keyed_accuracy": 0.9,
            "contexts": {"gold": {"right": 0.8}},
        },
        "03_pairs": {"n_pairs": split, "by_change": {"order": order}},
        "04_differentiation": {
            "site": "resid_post",
            "n_pairs": 3,
            "n_keys": 3,
            "n_null_pairs": 2,
            "significant_share": [0.0, 0.2],
            "null_significant_share": [0.0, 0.01],
            "oriented_null_significant_share": [0.0, 0.02],
            "nmd_relative": [None, 0.3],
            "max_abs_rho": [0.1, 0.4],
            "same_wording": {"n_pairs": 7, "significant_share": [0.0, 0.1]},
        },
        "05_prediction": {
            "auc": [0.6, 0.8],
            "auc_interval": [[0.5, 0.7], [0.7, 0.9]],
            "best_layer": 2,
            "best_auc": 0.8,
            "best_auc_interval": [0.7, 0.9],
            "n_test": 16,
            "n_test_keys": 4,
            "auc_within_key": 0.75,
            "auc_within_key_interval": [0.6, 0.9],
            "margin_auc": None,
            "entropy_auc": 0.5,
            "chosen_baseline": "role_features",
            "chosen_baseline_auc": 0.7,
            "chosen_baseline_interval": [0.6, 0.8],
            "gain": 0.1,
            "gain_interval": [0.0, 0.2],
            "baselines": {"prompt_only": forecast, "role_features": forecast},
        },
        "06_intervention": {"m2g": direction, "g2m": direction},
    }


def controls() -> pd.DataFrame:
    row = {"success": 0.6, "other": 0.1, "n": 20, "low": 0.5, "high": 0.7}
    rows = [{"direction": d, "name": "steered", "family": "steered", **row} for d in ("m2g", "g2m")]
    missing = dict.fromkeys(("success", "other", "low", "high"), float("nan")) | {"n": 0}
    return pd.DataFrame(
        [*rows, {"direction": "m2g", "name": "low_rho", "family": "shift", **missing}]
    )


def plant(
    runs: Path, seed: int, weights: str = "w" * 64, preset: str = "real", tried: dict = TRIED
) -> Path:
    home = runs / preset / "given" / "knowledge" / f"seed{seed}"
    for name, result in results(weights).items():
        folder = home / name
        folder.mkdir(parents=True)
        write_json(folder / "result.json", result)
        spent = {"cpu_seconds": 1.5, "wall_seconds": 2.0, "peak_memory_bytes": 2**30}
        about = {
            "machine": {"cores": 2, "processor": "x"},
            "versions": {"torch": "2"},
            "outputs": {},
        }
        about["parameters"] = {"base_model": BASE} | tried
        write_json(folder / "manifest.json", about | spent)
    return home


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Two finished seeds. Tables are given to the reader as they are: its checks have tests of their own."""
    tables = {"answered": answered(), "controls": controls()}
    monkeypatch.setattr("memgen.store.reader.FinishedStage.table", lambda _, name: tables[name])
    monkeypatch.setattr("memgen.store.reader.FinishedStage._check", lambda *_: None)
    for seed in (0, 1):
        plant(tmp_path / "runs", seed)
    return tmp_path / "runs"


def test_all_that_the_chapter_shows_is_there_for_every_seed(runs):
    found = collect(str(runs), "real", "knowledge", [0, 1])
    assert found["tried"] == TRIED
    assert [one["seed"] for one in found["seeds"]] == [0, 1]
    one = found["seeds"][0]
    shown = one["behaviours"]
    assert (shown["n"], shown["n_keys"]) == (16, 4)
    assert [shown[name]["rate"] for name in WORDS.values()] == [0.5, 0.25, 0.25]
    assert shown["memorization"]["low"] < 0.5 < shown["memorization"]["high"]
    assert [layer["layer"] for layer in one["layers"]] == [1, 2]
    assert one["layers"][1]["significant"] == 0.2 and one["layers"][0]["nmd_relative"] is None
    assert (one["layers"][1]["auc_low"], one["layers"][1]["auc_high"]) == (0.7, 0.9)
    assert one["contexts"]["gold"]["right"] == 0.8
    assert one["same_wording"]["n_pairs"] == 7
    bars = {bar["name"]: bar for bar in one["steering"]["m2g"]["bars"]}
    assert bars["steered"]["n"] == 20 and bars["low_rho"]["success"] is None
    assert set(one["steering"]["g2m"]["shifts"]) == {"steered", "steered_max", "one_layer"}
    assert one["steering"]["g2m"]["shifts"]["one_layer"]["layer"] == 2
    assert set(one["spent"]) == set(STAGES)
    json.dumps(found, allow_nan=False)


def test_the_model_has_its_card_and_the_example_is_the_shortest_of_test_keys(runs):
    found = collect(str(runs), "real", "knowledge", [0])
    assert found["model"]["title"] == SMOLLM2.title and found["model"]["n_layers"] == 2
    assert found["model"]["quantization"] == SMOLLM2.quantization
    assert found["model"]["weights"] == "w" * 64 and found["model"]["gguf"] == SMOLLM2.sha256
    assert found["example"]["key"] == "c"
    assert found["example"]["memorization"]["prompt"] == "c 0, is"
    assert found["example"]["generalization"]["prompt"] == "c again, is"


def test_unfinished_runs_are_refused_by_name(runs):
    shutil.rmtree(runs / "real" / "given" / "knowledge" / "seed1" / "05_prediction")
    with pytest.raises(ArtifactError, match=r"seed1 \(without 05_prediction\); `make real`"):
        collect(str(runs), "real", "knowledge", [0, 1])
    with pytest.raises(ArtifactError, match=r"seed7 \(without 01_dataset_design, 02_training"):
        collect(str(runs), "real", "knowledge", [0, 7])
    stamp = runs / "real" / "given" / "knowledge" / "seed0" / "04_differentiation.stamp"
    stamp.write_text("left out: no two prompts make a pair")
    with pytest.raises(ArtifactError, match=r"seed0 \(no two prompts make a pair\)"):
        collect(str(runs), "real", "knowledge", [0])


def test_runs_of_two_models_are_not_one(runs):
    plant(runs, 2, weights="v" * 64)
    with pytest.raises(ArtifactError, match="different weights .*seed 2: vvvv"):
        collect(str(runs), "real", "knowledge", [0, 2])


@pytest.mark.parametrize(("preset", "seed"), [("real", 2), ("real-relations", 0)])
def test_runs_that_chose_among_other_strengths_are_not_one(runs, preset, seed):
    plant(runs, seed, preset=preset, tried=TRIED | {"alphas": [0.1, 0.5]})
    with pytest.raises(ArtifactError, match=f"{preset}/.*seed{seed} chose among .* than .*seed0"):
        collect(str(runs), "real", "knowledge", [0, seed])


def test_runs_with_relations_held_back_stand_beside_the_others(runs):
    assert collect(str(runs), "real", "knowledge", [0, 1])["relations"] == []
    home = plant(runs, 1, preset="real-relations")
    (one,) = collect(str(runs), "real", "knowledge", [0, 1])["relations"]
    assert one["seed"] == 1 and one["left_out"] is None and one["held_back"] == ["a", "b", "c", "d"]
    assert one["behaviours"]["memorization"]["rate"] == 0.5 and one["prediction"]["best_auc"] == 0.8
    assert one["steering"]["m2g"]["bars"][0]["success"] == 0.6
    shutil.rmtree(home / "06_intervention")
    with pytest.raises(ArtifactError, match=r"real-relations.*seed1 \(without 06_intervention\)"):
        collect(str(runs), "real", "knowledge", [0, 1])
    (home / "06_intervention.stamp").write_text("left out: no prompt of validation keys")
    (one,) = collect(str(runs), "real", "knowledge", [0, 1])["relations"]
    assert one == {"seed": 1, "left_out": "no prompt of validation keys"}
    plant(runs, 0, weights="v" * 64, preset="real-relations")
    with pytest.raises(ArtifactError, match="different weights .*seed 0, relations: vvvv"):
        collect(str(runs), "real", "knowledge", [0, 1])


def test_the_command_writes_a_file_that_says_how_it_was_made(runs, tmp_path, capsys):
    out = tmp_path / "out"
    given = ["real", "collect", "--runs", str(runs), "--seeds", "0", "1", "--out", str(out)]
    assert main(given) == 0
    found = json.loads((out / f"{SMOLLM2.name}.json").read_text())
    assert found["command"] == 'make real SEEDS="0 1"' and found["machine"]["cores"] == 2
    assert "2 seeds, 6 bars" in capsys.readouterr().out
    assert main([*given, "--runs", str(tmp_path / "nowhere")]) == 1
    assert "not finished" in capsys.readouterr().err


def test_the_command_names_a_model_that_is_not_the_default():
    assert command({"name": "m", "base_model": "me/m"}, [3]).endswith('SET="base_model=me/m"')
    packaged = {"name": GEMMA3.name, "base_model": f"data/models/{GEMMA3.name}"}
    assert command(packaged, [26, 27]) == 'make real SEEDS="26 27" MODEL=gemma3-270m'


def test_a_model_that_is_not_packaged_is_refused_before_labs_run(capsys):
    assert main(["real", "check", "--model", GEMMA3.name]) == 0
    assert main(["real", "check", "--model", "gemma"]) == 1
    assert "MODEL=gemma is no packaged model; choose one of" in capsys.readouterr().err
