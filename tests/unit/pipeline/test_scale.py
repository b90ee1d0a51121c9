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
from memgen.pipeline.scale import SIZES, TASKS, collect, plan_of
from memgen.store.files import write_json


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


@pytest.fixture
def runs(tmp_path):
    """The smallest size with one run that passed and one that did not."""
    home = tmp_path / "64x4" / "scale" / TASKS[0]
    steered = {
        "success": 0.8,
        "n": 50,
        "interval": [0.7, 0.9],
        "controls": {"random_neurons": 0.2, "low_rho": 0.3},
        "alpha": 2.0,
        "top_n": 0.1,
    }
    results = {
        "02_training": {
            "passed": True,
            "n_parameters": 200_000,
            "step": 300,
            "memory_rate": 0.4,
            "rule_rate": 0.5,
            "free_accuracy": 0.95,
            "timings": {"train_seconds": 12.0},
        },
        "04_differentiation": {"max_abs_rho": [0.1, 0.6], "significant_share": [0.0, 0.5]},
        "05_prediction": {"best_auc": 0.9, "prompt_only_auc": None},
        "06_intervention": {"m2g": steered, "g2m": steered},
    }
    for stage, result in results.items():
        (home / "seed6" / stage).mkdir(parents=True)
        write_json(home / "seed6" / stage / "result.json", result)
    write_json(
        home / "seed6" / "02_training" / "manifest.json",
        {
            "versions": {"torch": "2"},
            "machine": {"cores": 2, "processor": "x"},
            "parameters": {},
        },
    )
    for seed in (7, 8):
        (home / f"seed{seed}" / "01_dataset_design").mkdir(parents=True)
    # seed 7 missed the gate, seed 8 was interrupted
    (home / "seed7" / "04_differentiation.stamp").write_text("left out: it missed the gate")
    return tmp_path


def test_a_run_that_did_not_pass_is_a_row_too(runs):
    table = collect(str(runs)).set_index("seed")
    assert list(table.passed) == [True, False] and table.n_parameters[6] == 200_000
    assert (
        table.m2g[6] == 0.8
        and table.m2g_control[6] == 0.3
        and table.max_abs_rho[6] == 0.6
        and pd.isna(table.auc[7])
    )
    with pytest.raises(ArtifactError, match="make scale"):
        collect(str(runs / "nothing"))


def test_the_command_writes_the_table_and_how_it_was_made(runs, capsys):
    assert main(["scale", "collect", "--runs", str(runs), "--out", str(runs / "out")]) == 0
    table = pd.read_csv(runs / "out" / "results.csv")
    assert len(table) == 2 and 'SEEDS=\\"6 7\\"' in (runs / "out" / "about.json").read_text()
    assert "2 runs, 1 passed" in capsys.readouterr().out
    assert "tagged, width 64, depth 4: largest |rho| 0.60" in describe(table)
    against_size(table).figure.savefig(runs / "scale.png")
    assert (
        main(["scale", "run", "--sizes", "1x1"]) == 1
        and "size '1x1' is unknown; choose from 64x4" in capsys.readouterr().err
    )
