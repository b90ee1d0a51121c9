"""Several studies one after the other, and their committed table: the scale sweep's and the arms'."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from memgen.config.base import ROOT
from memgen.errors import ArtifactError, StudyError
from memgen.pipeline.plan import Plan
from memgen.pipeline.reference import machine
from memgen.pipeline.runner import run_labs
from memgen.progress import duration
from memgen.stages import TRAINING
from memgen.store.files import write_json
from memgen.store.left_out import reason_in
from memgen.store.reader import FinishedRun


def run_plans(plans: dict[str, Plan], jobs: int) -> list[str]:
    """Run every plan, its name said first; returns the messages of those that failed in part."""
    failed, began = [], time.monotonic()
    for number, (name, plan) in enumerate(plans.items(), start=1):
        so_far = duration(time.monotonic() - began)
        print(f"{name} ({number} of {len(plans)}, {so_far} so far)", flush=True)
        try:
            run_labs(plan, jobs)
        except ArtifactError:
            raise
        except StudyError as error:
            failed.append(f"{name}: {error}")
            print(error, file=sys.stderr, flush=True)
    return failed


def ended_runs(home: Path, task: str, last: str) -> Iterator[tuple[int, FinishedRun]]:
    """`(seed, run)` of a task's runs that ended: with stage `last`, or where one was left out."""
    for folder in sorted(home.glob(f"{task}/seed*")):
        if not folder.name.removeprefix("seed").isdigit():
            continue  # a copy that somebody made, a retrain
        run = FinishedRun(folder)
        if run[last].exists or reason_in(folder):
            yield int(folder.name.removeprefix("seed")), run


def write_table(table: pd.DataFrame, target: str, runs: str, out: Path) -> None:
    """Write a table of runs (`seed`, `passed`), and how `make <target>` made it, to the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    table.to_csv(out / "results.csv", index=False, float_format="%.6g")
    seeds = " ".join(map(str, sorted(table.seed.unique())))
    about = {"command": f'make {target} SEEDS="{seeds}"', **machine(ROOT / runs, TRAINING)}
    write_json(out / "about.json", about)
    print(
        f"wrote {out / 'results.csv'}: {len(table)} runs, {int(table.passed.sum())} passed the gate"
    )
