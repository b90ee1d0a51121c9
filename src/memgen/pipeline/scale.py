"""The scale sweep: differentiation, prediction and steering against the size of the model.

    memgen scale run --seeds 23 24    train and question every size, in data/runs/scale/<width>x<depth>
    memgen scale collect            write data/reference/scale/results.csv from what has finished

A size without a checkpoint that passes the gate is a result: its row says so, the sweep goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from memgen.config.base import ROOT
from memgen.errors import ArtifactError, StudyError
from memgen.pipeline.plan import Plan
from memgen.pipeline.sweep import ended_runs, run_plans, write_table
from memgen.stages import LABS
from memgen.store.folders import study_folder
from memgen.store.reader import FinishedRun

#: width and depth, smallest first: 0.2, 0.4, 0.8, 1.8, 3.2, 6.3 and 10.6 million parameters in the
#: blocks
SIZES = ((64, 4), (128, 2), (128, 4), (192, 4), (256, 4), (256, 8), (384, 6))
SIZES_BY_NAME = {f"{width}x{depth}": (width, depth) for width, depth in SIZES}
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
                rows.append(
                    {
                        "width": width,
                        "depth": depth,
                        "task": task,
                        "seed": seed,
                        **_numbers(finished),
                    }
                )
    if not rows:
        raise ArtifactError(f"{runs} holds no run of the scale sweep; `make scale` makes one")
    return pd.DataFrame(rows)


def _numbers(run: FinishedRun) -> dict:
    def of(stage: str) -> dict:
        return run[stage].result if run[stage].exists else {}

    training, states = of("02_training"), of("04_differentiation")
    probes, steering = of("05_prediction"), of("06_intervention")
    found = {
        "passed": bool(training.get("passed")),
        "n_parameters": training.get("n_parameters"),
        "step": training.get("step"),
        "train_seconds": training.get("timings", {}).get("train_seconds"),
        "memory": training.get("memory_rate"),
        "rule": training.get("rule_rate"),
        "free": training.get("free_accuracy"),
        "max_abs_rho": max(states.get("max_abs_rho", [float("nan")])),
        "significant_share": max(states.get("significant_share", [float("nan")])),
        "auc": probes.get("best_auc"),
        "prompt_only_auc": probes.get("prompt_only_auc"),
    }
    for direction in ("m2g", "g2m"):
        one = steering.get(direction, {})
        found |= {
            direction: one.get("success"),
            f"{direction}_n": one.get("n"),
            f"{direction}_low": one.get("interval", [None, None])[0],
            f"{direction}_high": one.get("interval", [None, None])[1],
            f"{direction}_control": max(one.get("controls", {"": float("nan")}).values()),
            f"{direction}_alpha": one.get("alpha"),
            f"{direction}_top_n": one.get("top_n"),
        }
    return found


def write(runs: str, preset: str, out: Path) -> None:
    """Write the table of what has ended, and how it was made, to the folder `out`."""
    write_table(collect(runs, preset), "scale", runs, out)
