"""The arms of training: what decides that a model shows both behaviours?

    memgen arms run --seeds 23 24     train every arm, in data/runs/arms
    memgen arms collect             write data/reference/arms/results.csv from what has finished

An arm is a preset that inherits from `laptop` and changes one thing: which keys are taught the
rule's answer in some settings (`contrast_on`), or on what the loss is. One that never shows both
behaviours ends with the checkpoint that came closest to them.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from memgen.claims.quantities.behaviors import in_gate
from memgen.config.base import ROOT
from memgen.errors import ArtifactError
from memgen.pipeline.plan import Plan
from memgen.pipeline.sweep import ended_runs, run_plans, write_table
from memgen.stages import TRAINING
from memgen.store.folders import study_folder
from memgen.tasks import TASK_NAMES

#: by preset, in words
ARMS = {
    "arm-untaught": "no key is taught",
    "arm-gate": "further keys are taught",
    "arm-taught": "all keys are taught",
    "arm-instance": "loss on whole instances",
}
TARGET = ROOT / "data" / "reference" / "arms"
NUMBERS = ("memory_rate", "rule_rate", "other_rate", "free_accuracy", "keyed_accuracy", "step")


def plan_of(arm: str, seeds: list[int], runs: str) -> Plan:
    """Labs 01 and 02 of all tasks."""
    return Plan(arm, list(TASK_NAMES), seeds, runs, labs=["01_dataset_design", TRAINING])


def run(seeds: list[int], runs: str, jobs: int) -> list[str]:
    """Train every arm; returns the messages of those that failed in part."""
    return run_plans({arm: plan_of(arm, seeds, runs) for arm in ARMS}, jobs)


def collect(runs: str) -> pd.DataFrame:
    """A row per arm, task and seed: rates on test keys, and does it pass the gate of the study?"""
    rows = []
    for arm in ARMS:
        for task in TASK_NAMES:
            for seed, finished in ended_runs(study_folder(runs, arm), task, TRAINING):
                found = finished[TRAINING].result
                rows.append(
                    {
                        "arm": arm,
                        "task": task,
                        "seed": seed,
                        "passed": in_gate(found),
                        **{name: found[name] for name in NUMBERS},
                        "n_conflict": found["n_conflict"],
                        "n_test_keys": found["n_test_keys"],
                    }
                )
    if not rows:
        raise ArtifactError(f"{runs} holds no arm that has ended; `make arms` runs them")
    return pd.DataFrame(rows)


def write(runs: str, out: Path) -> None:
    """Write the table of what has ended, and how it was made, to the folder `out`."""
    write_table(collect(runs), "arms", runs, out)
