"""The scale sweep: differentiation, prediction and steering against the size of the model.

    memgen scale run --seeds 26 27    train and question every size, in data/runs/scale/<width>x<depth>
    memgen scale collect            write data/reference/scale/results.csv from what has finished

A size without a checkpoint that passes the gate is a result: its row says so, the sweep goes on. The
sweep takes hours, so its sizes may be run one by one: collecting replaces the rows of those that were
run, and keeps the others.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from memgen.config.base import ROOT
from memgen.errors import ArtifactError, StudyError
from memgen.pipeline.plan import Plan
from memgen.pipeline.reference import machine
from memgen.pipeline.sweep import ended_runs, run_plans
from memgen.stages import LABS, TRAINING
from memgen.store.files import read_json, write_json
from memgen.store.folders import study_folder
from memgen.store.reader import FinishedRun
from memgen.terms import DIRECTIONS

#: width and depth, smallest first: 0.2, 0.4, 0.8, 1.8, 3.2, 6.3, 10.6 and, as large as GPT-2, 85
#: million parameters in the blocks
SIZES = ((64, 4), (128, 2), (128, 4), (192, 4), (256, 4), (256, 8), (384, 6), (768, 12))
SIZES_BY_NAME = {f"{width}x{depth}": (width, depth) for width, depth in SIZES}
#: run where none are named: the last takes a night
USUAL = list(SIZES_BY_NAME)[:-1]
TASKS = ["arithmetic-tagged", "arithmetic-matched"]
HEAD = 32  # width of an attention head, at every size
TARGET = ROOT / "data" / "reference" / "scale"


def plan_of(width: int, depth: int, seeds: list[int], runs: str, preset: str = "scale") -> Plan:
    """The labs 01 to 06 of both tasks at one size."""
    return Plan(
        preset,
        TASKS,
        seeds,
        f"{runs}/{width}x{depth}",
        {"n_embd": width, "n_layer": depth, "n_head": width // HEAD},
        labs=[*LABS["06_intervention"].reads, "05_prediction", "06_intervention"],
    )


@dataclass
class Sweep:
    """Which sizes (such as "128x4") with which seeds, and where. Errors: `StudyError` for an unknown size."""

    sizes: list[str]
    seeds: list[int]
    runs: str
    preset: str = "scale"

    def __post_init__(self):
        for size in self.sizes:
            if size not in SIZES_BY_NAME:
                raise StudyError(
                    f"size {size!r} is unknown; choose from {', '.join(SIZES_BY_NAME)}"
                )

    def run(self, jobs: int) -> list[str]:
        """Run every size; returns the messages of those that failed in part."""
        sizes = {name: SIZES_BY_NAME[name] for name in self.sizes}
        return run_plans(
            {
                f"size {name}": plan_of(*size, self.seeds, self.runs, self.preset)
                for name, size in sizes.items()
            },
            jobs,
        )


def collect(runs: str, preset: str = "scale") -> pd.DataFrame:
    """A row per ended size, task and seed: its numbers, or `passed` False if no checkpoint did."""
    rows = []
    for width, depth in SIZES:
        for task in TASKS:
            home = study_folder(f"{runs}/{width}x{depth}", preset)
            for seed, finished in ended_runs(home, task, "06_intervention"):
                named = {"width": width, "depth": depth, "task": task, "seed": seed}
                rows.append(named | _numbers(finished))
    if not rows:
        raise ArtifactError(f"{runs} holds no run of the scale sweep; `make scale` makes one")
    return pd.DataFrame(rows)


def _numbers(run: FinishedRun) -> dict[str, Any]:
    """A row: of training rates on test keys, the maps, the probe beside the forecast without states."""

    def of(stage: str) -> dict[str, Any]:
        return run[stage].result if run[stage].exists else {}

    training, states = of("02_training"), of("04_differentiation")
    probes, steering = of("05_prediction"), of("06_intervention")
    spent = run[TRAINING].manifest if run[TRAINING].exists else {}
    return {
        "passed": bool(training.get("passed")),
        "n_parameters": training.get("n_parameters"),
        "step": training.get("step"),
        "cpu_seconds": spent.get("cpu_seconds"),
        "memory": training.get("memory_rate"),
        "rule": training.get("rule_rate"),
        "free": training.get("free_accuracy"),
        "keyed": training.get("keyed_accuracy"),
        "n_conflict": training.get("n_conflict"),
        "n_test_keys": training.get("n_test_keys"),
        "max_abs_rho": max(states.get("max_abs_rho", [None])),
        "significant_share": max(states.get("significant_share", [None])),
        "auc": probes.get("best_auc"),
        **_ends("auc", probes.get("best_auc_interval")),
        "forecast": probes.get("chosen_baseline"),
        "forecast_auc": probes.get("chosen_baseline_auc"),
        "gain": probes.get("gain"),
        **_ends("gain", probes.get("gain_interval")),
        **{k: v for d in DIRECTIONS for k, v in _steered(d, steering.get(d, {})).items()},
    }


def _ends(name: str, interval: list[float | None] | None) -> dict[str, float | None]:
    low, high = interval or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


def _steered(direction: str, of: dict[str, Any]) -> dict[str, Any]:
    """One direction: success within the limit (0 without such a cell) and alone, and what stands beside it.

    The controls are of the cell that was run: the one within the limit, where there is one.
    """
    kept, most = of.get("kept") or {}, of.get("max") or {}
    counted = kept.get("success", 0.0) if of else None
    forbidden = of.get("output_controls", {}).get("forbid_source", {})
    shifts = [rate for rate in of.get("controls", {}).values() if rate is not None]
    found = {
        "": counted,
        "kept": bool(kept) if of else None,
        "n": of.get("n"),
        **_ends("within", kept.get("interval")),
        "control": max(shifts, default=None),
        "forbidden": forbidden.get("success"),
        "alpha": of.get("alpha"),
        "top_n": of.get("top_n"),
        "free": of.get("free_accuracy_before"),
        "free_within": kept.get("free_accuracy_after"),
        "most": most.get("success"),
        **_ends("most", most.get("interval")),
        "free_most": most.get("free_accuracy_after"),
    }
    return {f"{direction}_{name}".rstrip("_"): value for name, value in found.items()}


def write(runs: str, preset: str, out: Path) -> None:
    """Write what has ended to `<out>/results.csv`, and how each size was made to `about.json`.

    The rows of sizes that are not in `runs` stay as they are, if they have the same columns.
    """
    out.mkdir(parents=True, exist_ok=True)
    file, about = out / "results.csv", out / "about.json"
    found = collect(runs, preset)
    made = {name: _about(runs, preset, name, rows) for name, rows in found.groupby(_name(found))}
    older = pd.read_csv(file) if file.is_file() else found.iloc[:0]
    if list(older) == list(found) and len(others := older[~_name(older).isin(list(made))]):
        made = read_json(about)["sizes"] | made
        found = pd.concat([others, found], ignore_index=True)
    place = _name(found).map(list(SIZES_BY_NAME).index)
    found = found.iloc[place.argsort(kind="stable")]
    found.to_csv(file, index=False, float_format="%.6g")
    write_json(about, {"sizes": {name: made[name] for name in SIZES_BY_NAME if name in made}})
    print(f"wrote {file}: {len(found)} runs, {int(found.passed.sum())} passed the gate")


def _name(table: pd.DataFrame) -> pd.Series:
    return table.width.astype(str) + "x" + table.depth.astype(str)


def _about(runs: str, preset: str, size: str, rows: pd.DataFrame) -> dict[str, Any]:
    """Command, date, versions and machine of a size."""
    seeds = " ".join(map(str, sorted(rows.seed.unique())))
    command = f'make scale SIZES={size} SEEDS="{seeds}"'
    home = study_folder(f"{runs}/{size}", preset)
    return {
        "command": command,
        "collected": time.strftime("%Y-%m-%d"),
        **machine(home, "01_dataset_design"),
    }
