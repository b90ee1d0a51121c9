"""The scale sweep: which labs it runs, and what it collects from them, also where the gate was not
passed.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from memgen.errors import ArtifactError
from memgen.figures.scale import against_size, describe
from memgen.pipeline.cli import main
from memgen.pipeline.scale import SIZES, SIZES_BY_NAME, TASKS, USUAL, collect, plan_of, write
from memgen.store.files import read_json, write_json


def test_every_size_is_a_study_of_its_own_with_the_same_recipe():
    blocks = [12 * width**2 * depth for width, depth in SIZES]
    assert (
        len(SIZES) >= 5
        and blocks == sorted(blocks)
        and blocks[0] < 250_000
        and blocks[-1] > 10_000_000
    )
    plans = [
        plan_of(width, depth, [6], "runs") for width, depth in SIZES
    ]  # the plan validates: heads divide every width
    stamps = [Path(stamp) for stamp in plans[0].studied]
    assert {stamp.stem for stamp in stamps} == {
        "01_dataset_design",
        "02_training",
        "03_pairs",
        "04_differentiation",
        "05_prediction",
        "06_intervention",
    }
    assert {stamp.parts[0] for stamp in stamps} == {*TASKS}
    needs = plans[0].reads("02_training")({"track": "", "task": TASKS[0], "seed": "6"})
    assert "arithmetic-base/seed6/00_base.stamp" in needs
    assert {Path(stamp).stem for stamp in plans[0].targets()} == {
        "05_prediction",
        "06_intervention",
    }
    training = [plan.parameters("02_training", TASKS[0], "scratch", 6) for plan in plans]
    assert [(t["n_embd"], t["n_layer"]) for t in training] == list(SIZES)
    differ = {"n_embd", "n_layer", "n_head", "runs"}
    assert all(
        {k: v for k, v in t.items() if k not in differ}
        == {k: v for k, v in training[0].items() if k not in differ}
        for t in training
    )


STEERED = {
    "cell": "kept",
    "kept_exists": True,
    "success": 0.6,
    "n": 50,
    "controls": {"random_neurons": 0.2, "low_rho": 0.3, "best_of_random": None},
    "output_controls": {"forbid_source": {"success": 0.4}},
    "alpha": 2.0,
    "top_n": 0.1,
    "free_accuracy_before": 0.95,
    "kept": {"success": 0.6, "interval": [0.5, 0.7], "free_accuracy_after": 0.94},
    "max": {"success": 0.8, "interval": [0.7, 0.9], "free_accuracy_after": 0.5},
}
#: no cell stays within the limit: what was run is the one of greatest success
COSTLY = STEERED | {"cell": "max", "kept_exists": False, "success": 0.8, "kept": None}


def make(home: Path, seed: int) -> None:
    """A run that passed, of the numbers that the sweep collects."""
    results = {
        "01_dataset_design": {},
        "02_training": {
            "passed": True,
            "n_parameters": 200_000,
            "step": 300,
            "memory_rate": 0.4,
            "rule_rate": 0.5,
            "free_accuracy": 0.95,
            "keyed_accuracy": 0.9,
            "n_conflict": 60,
            "n_test_keys": 12,
        },
        "04_differentiation": {"max_abs_rho": [0.1, 0.6], "significant_share": [0.0, 0.5]},
        "05_prediction": {
            "best_auc": 0.9,
            "best_auc_interval": [0.8, 0.95],
            "chosen_baseline": "prompt_only",
            "chosen_baseline_auc": 0.7,
            "gain": 0.2,
            "gain_interval": [0.1, 0.3],
        },
        "06_intervention": {"m2g": STEERED, "g2m": COSTLY},
    }
    for stage, result in results.items():
        folder = home / f"seed{seed}" / stage
        folder.mkdir(parents=True)
        write_json(folder / "result.json", result)
        made = {
            "versions": {"torch": "2"},
            "machine": {"cores": 2, "processor": "x"},
            "parameters": {},
            "cpu_seconds": 90.0,
        }
        write_json(folder / "manifest.json", made)


@pytest.fixture
def runs(tmp_path):
    """The smallest size with one run that passed and one that did not."""
    home = tmp_path / "64x4" / "scale" / TASKS[0]
    make(home, 6)
    for seed in (7, 8):
        (home / f"seed{seed}" / "01_dataset_design").mkdir(parents=True)
    # seed 7 missed the gate, seed 8 was interrupted
    (home / "seed7" / "04_differentiation.stamp").write_text("left out: it missed the gate")
    return tmp_path


def test_a_run_that_did_not_pass_is_a_row_too(runs):
    table = collect(str(runs)).set_index("seed")
    assert list(table.passed) == [True, False] and table.n_parameters[6] == 200_000
    assert table.max_abs_rho[6] == 0.6 and table.cpu_seconds[6] == 90 and pd.isna(table.auc[7])
    assert list(table.loc[6, ["auc_low", "forecast", "forecast_auc", "gain_high"]]) == [
        *(0.8, "prompt_only", 0.7, 0.3)
    ]
    with pytest.raises(ArtifactError, match="make scale"):
        collect(str(runs / "nothing"))


def test_success_within_the_limit_and_alone_are_two_numbers(runs):
    row = collect(str(runs)).set_index("seed").loc[6]
    within, alone = ["kept", "within_low", "free_within"], ["most", "most_high", "free_most"]
    beside = ["control", "forbidden", "free", "n"]
    assert row.m2g == 0.6 and list(row[[f"m2g_{name}" for name in within]]) == [True, 0.5, 0.94]
    assert list(row[[f"m2g_{name}" for name in alone + beside]]) == [
        *(0.8, 0.9, 0.5),
        *(0.3, 0.4, 0.95, 50),
    ]
    # without a cell within the limit nothing is turned there, whatever was run
    assert row.g2m == 0 and not row.g2m_kept and row.g2m_most == 0.8
    assert pd.isna(row.g2m_within_low) and pd.isna(row.g2m_free_within)
    assert collect(str(runs)).set_index("seed").loc[7, ["m2g", "m2g_kept"]].isna().all()


def test_the_command_writes_the_table_and_how_it_was_made(runs, capsys):
    assert main(["scale", "collect", "--runs", str(runs), "--out", str(runs / "out")]) == 0
    table = pd.read_csv(runs / "out" / "results.csv")
    made = read_json(runs / "out" / "about.json")["sizes"]
    assert len(table) == 2 and made["64x4"]["command"] == 'make scale SIZES=64x4 SEEDS="6 7"'
    assert made["64x4"]["machine"] == {"cores": 2, "processor": "x"}
    assert "2 runs, 1 passed" in capsys.readouterr().out
    assert "tagged, width 64, depth 4: largest |rho| 0.60" in describe(table)
    against_size(table).figure.savefig(runs / "scale.png")
    assert (
        main(["scale", "run", "--sizes", "1x1"]) == 1
        and "size '1x1' is unknown; choose from 64x4" in capsys.readouterr().err
    )


def test_a_size_of_another_sitting_stays_and_one_that_was_run_again_is_replaced(runs, tmp_path):
    out = tmp_path / "out"
    write(str(runs), "scale", out)
    sitting = tmp_path / "later"
    make(sitting / "128x2" / "scale" / TASKS[1], 9)
    write(str(sitting), "scale", out)
    table = pd.read_csv(out / "results.csv")
    assert list(zip(table.width, table.seed)) == [(64, 6), (64, 7), (128, 9)]
    assert list(read_json(out / "about.json")["sizes"]) == ["64x4", "128x2"]
    make(sitting / "64x4" / "scale" / TASKS[0], 5)
    write(str(sitting), "scale", out)
    table = pd.read_csv(out / "results.csv")
    assert list(zip(table.width, table.seed)) == [(64, 5), (128, 9)]
    # a table of other columns is of another edition: nothing of it can stand beside today's
    pd.DataFrame({"width": [256], "depth": [4], "old": [1]}).to_csv(out / "results.csv")
    write(str(runs), "scale", out)
    assert list(pd.read_csv(out / "results.csv").width) == [64, 64]


def test_the_size_of_a_night_is_run_only_where_it_is_named():
    assert set(SIZES_BY_NAME) - set(USUAL) == {"768x12"}
