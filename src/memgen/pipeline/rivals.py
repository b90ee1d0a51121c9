"""The whole scoreboard: every method of lab 13, and labs 14 to 16, on every task and seed.

    memgen rivals run --seeds 26      question the models, in data/runs/rivals
    memgen rivals collect             write data/reference/rivals from what has finished

The study itself runs the quick methods alone, and labs 15 and 16 for its first seed. This one has the same
preset and seeds, so its models are the same: it begins as a copy of what the study has finished, and trains
only what is not there. What has finished is not run again.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from memgen.config.base import ROOT
from memgen.errors import ArtifactError
from memgen.pipeline.plan import Plan
from memgen.pipeline.reference import machine
from memgen.pipeline.settled import NOTED
from memgen.pipeline.sweep import ended_runs, run_plans
from memgen.stages import LABS, LATER, TRAINING, with_their_inputs
from memgen.store.files import write_json
from memgen.store.folders import study_folder
from memgen.store.reader import FinishedStage
from memgen.tasks import TASK_NAMES
from memgen.terms import DIRECTIONS

BOARD, CELLS = "13_scoreboard", "06_intervention"
#: labs whose numbers are collected, a table each, and which of them (all, where none are named)
NUMBERS: dict[str, tuple[str, ...]] = {
    CELLS: tuple(f"{d}.{name}" for d in DIRECTIONS for name in ("success", "kept_exists")),
    **{name: () for name in LATER if name != BOARD},
}
PRESET = "laptop"
PLACE = Path("data", "reference", "rivals")  # below the repository
TARGET = ROOT / PLACE
#: of a study, what is true of its own folder alone: who holds it, what runs there, what was settled. With
#: what Snakemake remembers of each lab (`.snakemake/metadata`) it sees which are asked anew here
NOT_COPIED = ("*.lock", NOTED, "locks", "incomplete", ".tools")
ON_TRACKS = ("scratch", "lora")
#: from scratch all methods that there are; on adapters those that the preset names, two of each kind
SETTINGS: dict[str, dict[str, Any]] = {"scratch": {"methods": []}}
RESULTS, HOME = "results.csv", "modular_addition.csv"  # the second one: `pipeline.modular_addition`
CARRIED = "across_tasks.csv"  # lab 15's vectors on other tasks' models: `pipeline.carried_vectors`
RUN = ["track", "task", "seed"]  # the columns that say which run a row is of


def table_of(name: str) -> str:
    """The file of a lab's numbers: `correlates.csv`."""
    return f"{LABS[name].short}.csv"


def home_of(runs: str) -> str:
    """The folder of runs that is the scoreboard's own; the study's stays as it is."""
    return str(Path(runs) / "rivals")


def plans_of(
    tasks: list[str],
    seeds: list[int],
    runs: str,
    preset: str = PRESET,
    tracks: tuple[str, ...] = ON_TRACKS,
) -> dict[str, Plan]:
    """The labs of the rivals and all that they read, for every seed: a plan per track."""
    wanted = with_their_inputs([BOARD, *NUMBERS])
    return {
        f"the scoreboard, track {track}": Plan(
            preset,
            tasks,
            seeds,
            home_of(runs),
            settings=SETTINGS.get(track, {}),
            tracks=[track],
            labs=wanted,
        )
        for track in tracks
    }


def bring_study(runs: str, preset: str) -> bool:
    """Begin as a copy of the study in `<runs>/<preset>`, if there is one and this is the beginning."""
    study, home = study_folder(runs, preset), study_folder(home_of(runs), preset)
    if home.exists() or not study.is_dir():
        return False
    coming = home.with_name(f".{home.name}.coming")
    shutil.rmtree(coming, ignore_errors=True)  # an earlier copy that was cut short
    shutil.copytree(study, coming, ignore=shutil.ignore_patterns(*NOT_COPIED))
    os.replace(coming, home)
    return True


def run(runs: str, preset: str, plans: dict[str, Plan], jobs: int) -> list[str]:
    """Run them; returns the messages of what failed in part."""
    if bring_study(runs, preset):
        print(f"begun with what {study_folder(runs, preset)} has finished", flush=True)
    return run_plans(plans, jobs)


def collect(runs: str, preset: str = PRESET) -> pd.DataFrame:
    """A row per track, task, seed, method, direction and choice, as lab 13 leaves them.

    `seconds`: of the method in this direction, CPU.
    """
    found = []
    for run, stage in _ended(runs, preset, BOARD):
        rows, took = stage.table("scores"), stage.result["timings"]
        seconds = [took.get(f"{m}.{d}") for m, d in zip(rows.method, rows.direction)]
        found.append(rows.assign(**run, seconds=seconds))
    if not found:
        raise ArtifactError(f"{runs} holds no scoreboard that has ended; `make rivals` makes them")
    table = pd.concat(found, ignore_index=True)
    return table[RUN + [name for name in table if name not in RUN]]


def read_board(path: Path) -> pd.DataFrame:
    """The table of `collect` as it was written: a method may be of the kind `null`, which is a word."""
    return pd.read_csv(path, keep_default_na=False, na_values=[""])


def numbers(runs: str, preset: str, name: str) -> pd.DataFrame:
    """A row per track, task and seed of a lab that has ended; its numbers by their paths (`m2g.n`).

    Lists are left out, and words. Empty where no run of the lab has ended.
    """
    rows = []
    for run, stage in _ended(runs, preset, name):
        found = dict(by_path(stage.result))
        rows.append(run | {path: found[path] for path in NUMBERS[name] or found if path in found})
    return pd.DataFrame(rows)


def _ended(runs: str, preset: str, name: str) -> Iterator[tuple[dict[str, Any], FinishedStage]]:
    """Track, task and seed with the finished stage, of all runs that have this lab."""
    home = study_folder(home_of(runs), preset)
    for track, task in itertools.product(ON_TRACKS, TASK_NAMES):
        for seed, finished in ended_runs(home if track == "scratch" else home / track, task, name):
            if finished[name].exists:  # else left out: its model did not show both behaviours
                yield dict(zip(RUN, (track, task, seed))), finished[name]


def by_path(result: dict[str, Any], before: str = "") -> Iterator[tuple[str, float | None]]:
    """`(path, number)` of a result, nested dictionaries joined by dots; not how long it took."""
    for name, value in result.items():
        if isinstance(value, dict) and name != "timings":
            yield from by_path(value, f"{before}{name}.")
        elif value is None or isinstance(value, int | float):
            yield f"{before}{name}", None if value is None else float(value)


def write(runs: str, preset: str, out: Path) -> None:
    """Write the tables of what has ended, and how they were made, to the folder `out`."""
    table = collect(runs, preset)
    out.mkdir(parents=True, exist_ok=True)
    table.to_csv(out / RESULTS, index=False, float_format="%.6g")
    for name in NUMBERS:
        found = numbers(runs, preset, name)
        if len(found):
            found.to_csv(out / table_of(name), index=False, float_format="%.6g")
    seeds = " ".join(map(str, sorted(table.seed.unique())))
    tasks, tracks = (" ".join(table[name].unique()) for name in ("task", "track"))
    command = f'make rivals TASKS="{tasks}" SEEDS="{seeds}" TRACKS="{tracks}"'
    home = study_folder(home_of(runs), preset)
    write_json(out / "about.json", {"command": command, **machine(home, TRAINING)})
    n_runs = len(table.drop_duplicates(RUN))
    print(f"wrote {out / RESULTS}: {len(table)} rows of {n_runs} runs")
