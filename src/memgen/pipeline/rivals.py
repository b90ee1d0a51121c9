"""The whole scoreboard: every method of lab 13 on every task and seed.

    memgen rivals run --seeds 26      train and question the models, in data/runs/rivals
    memgen rivals collect             write data/reference/rivals/results.csv from what has finished

The study itself runs the quick methods alone. This one has the same recipe and seeds, so its models are the
same, and all methods (preset `rivals`). What has finished is not run again.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import pandas as pd

from memgen.config.base import ROOT
from memgen.errors import ArtifactError
from memgen.pipeline.plan import Plan
from memgen.pipeline.reference import machine
from memgen.pipeline.sweep import ended_runs, run_plans
from memgen.stages import TRAINING, with_their_inputs
from memgen.store.files import write_json
from memgen.store.folders import study_folder
from memgen.tasks import TASK_NAMES

BOARD = "13_scoreboard"
PRESET = "rivals"
TARGET = ROOT / "data" / "reference" / "rivals"
ON_TRACKS = ("scratch", "lora")
RESULTS, HOME = "results.csv", "modular_addition.csv"  # the second one: `pipeline.modular_addition`


def plan_of(
    tasks: list[str],
    seeds: list[int],
    runs: str,
    preset: str = PRESET,
    tracks: tuple[str, ...] = ON_TRACKS,
) -> Plan:
    """The scoreboard and all that it reads; on adapters with the methods that the preset names for them."""
    return Plan(preset, tasks, seeds, runs, tracks=list(tracks), labs=with_their_inputs([BOARD]))


def run(plan: Plan, jobs: int) -> list[str]:
    """Run it; returns the messages of what failed in part."""
    return run_plans({"the scoreboard": plan}, jobs)


def collect(runs: str, preset: str = PRESET) -> pd.DataFrame:
    """A row per track, task, seed, method, direction and choice, as lab 13 leaves them.

    `seconds`: of the method in this direction, CPU.
    """
    found = []
    home = study_folder(runs, preset)
    for track, task in itertools.product(ON_TRACKS, TASK_NAMES):
        for seed, finished in ended_runs(home if track == "scratch" else home / track, task, BOARD):
            stage = finished[BOARD]
            if not stage.exists:
                continue  # left out: its model did not show both behaviours
            rows, took = stage.table("scores"), stage.result["timings"]
            seconds = [took.get(f"{m}.{d}") for m, d in zip(rows.method, rows.direction)]
            found.append(rows.assign(track=track, task=task, seed=seed, seconds=seconds))
    if not found:
        raise ArtifactError(f"{runs} holds no scoreboard that has ended; `make rivals` makes them")
    table = pd.concat(found, ignore_index=True)
    first = ["track", "task", "seed"]
    return table[first + [name for name in table if name not in first]]


def write(runs: str, preset: str, out: Path) -> None:
    """Write the table of what has ended, and how it was made, to the folder `out`."""
    table = collect(runs, preset)
    out.mkdir(parents=True, exist_ok=True)
    table.to_csv(out / RESULTS, index=False, float_format="%.6g")
    seeds = " ".join(map(str, sorted(table.seed.unique())))
    tasks, tracks = (" ".join(table[name].unique()) for name in ("task", "track"))
    command = f'make rivals TASKS="{tasks}" SEEDS="{seeds}" TRACKS="{tracks}"'
    home = study_folder(runs, preset)
    write_json(out / "about.json", {"command": command, **machine(home, TRAINING)})
    n_runs = len(table.drop_duplicates(["track", "task", "seed"]))
    print(f"wrote {out / RESULTS}: {len(table)} rows of {n_runs} runs")
