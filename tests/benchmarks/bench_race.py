"""Does the race choose the cells of the full grid, and on how many of its rows?

On finished runs: lab 06's own grid, prompts and model, both choices (success alone; the most
successful cell that loses at most the limit's share of the free prompts). The full grid is every cell
on every validation prompt; for the second choice every cell on every free prompt, too. What it
chooses is found by running every cell on every validation prompt, and then, from the best cell
downwards, on all free prompts, until one is within the limit.

A line a task, seed and direction: both choices, rows of rows, the printed chance of having lost the
best cell, and CPU seconds of race and full grid. Then the folds by task, and how many choices agree.

    python tests/benchmarks/bench_race.py data/runs/laptop

Written to data/reference/performance/ after each direction: `race.csv`, a row each, and `race.json`: when,
where, of which commit and versions. What was killed goes on there, if code and versions are the same.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from memgen.labs.intervention import prompts_to_turn
from memgen.steering.cells import grid
from memgen.steering.choice import Collateral, choose
from memgen.steering.steering import Steering
from memgen.store.files import read_json, write_json
from memgen.store.fingerprint import processor, versions
from memgen.store.products import use_onednn
from memgen.store.reader import FinishedRun
from memgen.tasks.dataset import free_rows
from memgen.terms import DIRECTIONS, RULE_CODE, SIGN, TARGET

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "data" / "reference" / "performance"
FOLDS = {
    "tagged": 10.0
}  # fewer rows that are wanted for success alone, by a part of the task's name
FOLD = 5.0
#: what rows of one outcome have in common
_SAME = ("commit", "versions", "machine")
_SUMMED = ("run", "grid", "alone", "free_run", "free_grid", "race_seconds", "full_seconds")


def full_grid(steering: Steering, shifts: np.ndarray, tuning, direction: str, free: Collateral):
    """`(most successful, most successful within the limit or None)`, of equal cells the first."""
    won = (steering.outcomes(shifts, tuning) == TARGET[direction]).sum(1)
    order = np.argsort(-won, kind="stable")
    for cell in order:
        right = (steering.outcomes(shifts[cell][None], free.rows) == RULE_CODE).sum()
        if right >= free.enough:
            return int(order[0]), int(cell)
    return int(order[0]), None


def measured(run: FinishedRun, directions: Iterable[str]) -> Iterator[dict[str, Any]]:
    """A row a direction."""
    p = run["06_intervention"].parameters
    steering = Steering.of(run, p.site, p.positions)
    tuning = prompts_to_turn(run.answered(), "validation", p.n_prompts)
    free = free_rows(run.dataset(), "validation", p.n_free_validation)
    collateral = Collateral(steering, free, p.collateral_limit)
    cells = grid(p.alphas, p.top_ns, steering.nmd, steering.rho)
    for d in directions:
        began = time.process_time()
        choice = choose(steering, cells, tuning[d], d, [collateral])
        raced = time.process_time()
        shifts = SIGN[d] * np.stack([steering.shift(cell) for cell in cells])
        best, kept = full_grid(steering, shifts, tuning[d], d, collateral)
        full = time.process_time()
        yield {
            "direction": d,
            "same": choice.max == cells[best],
            "same_limited": choice.kept == (None if kept is None else cells[kept]),
            **choice.rows,
            "chance": choice.risk["max"],
            "chance_limited": choice.risk["kept"],
            "race_seconds": round(raced - began, 3),
            "full_seconds": round(full - raced, 3),
        }


class Outcome:
    """Rows of measurements on disk, and what they were made with."""

    def __init__(self, folder: Path, about: dict[str, Any]):
        """Go on from what is there, if it was made with the same code and versions on such a machine."""
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self._about = folder / "race.csv", folder / "race.json"
        self.rows: list[dict[str, Any]] = []
        if self.path.is_file() and self._about.is_file():
            before = read_json(self._about)
            alike = all(before.get(name) == about.get(name) for name in _SAME)
            if alike and not about["commit"].endswith("+"):
                text = {"task": str, "seed": str, "direction": str}
                self.rows = pd.read_csv(self.path, dtype=text).to_dict("records")
                print(f"going on after {len(self.rows)} of {self.path}", flush=True)
        if not self.rows:
            self.path.unlink(missing_ok=True)
        write_json(self._about, about)

    def left(self, task: str, seed: str) -> list[str]:
        """Directions that are not measured yet."""
        done = {row["direction"] for row in self.rows if (row["task"], row["seed"]) == (task, seed)}
        return [d for d in DIRECTIONS if d not in done]

    def add(self, row: dict[str, Any]) -> None:
        """Keep a row; a kill leaves the file with it or without it."""
        self.rows.append(row)
        aside = self.path.with_suffix(".tmp")
        pd.DataFrame(self.rows).to_csv(aside, index=False)
        aside.replace(self.path)


def about(arguments: list[str]) -> dict[str, Any]:
    """When, where, of which commit (`+` if its code had changes) and versions."""
    git = ("git", "-C", str(ROOT))
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    paths = ("src", "tests/benchmarks")
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", *paths]).returncode
    return {
        "date": date.today().isoformat(),
        "commit": head.strip() + ("+" if changed else ""),
        "command": " ".join(["python tests/benchmarks/bench_race.py", *arguments]),
        "machine": {"cores": os.cpu_count(), "processor": processor()},
        "versions": versions(),
    }


def line(one: dict[str, Any]) -> str:
    """A task, seed and direction in words."""
    every, of = one["run"] + one["free_run"], one["grid"] + one["free_grid"]
    return (
        f"{one['task']:20s} {one['seed']:>3s} {one['direction']}"
        f"  success alone {'same' if one['same'] else 'LOST'}"
        f" ({one['alone']} of {one['grid']} rows, {one['grid'] / one['alone']:.1f}-fold; chance"
        f" {one['chance']:.3f})  limited {'same' if one['same_limited'] else 'LOST'} (both: {every} of"
        f" {of}, {of / every:.1f}-fold; chance {one['chance_limited']:.3f})  CPU"
        f" {one['race_seconds']:.1f} s, full {one['full_seconds']:.1f} s"
    )


def wanted(task: str) -> float:
    """How many times fewer rows are wanted for success alone."""
    return next((fold for part, fold in FOLDS.items() if part in task), FOLD)


def summary(rows: list[dict[str, Any]]) -> str:
    """Folds by task, how many choices agree, the largest chance."""
    lines = []
    for task in dict.fromkeys(row["task"] for row in rows):
        mine = [row for row in rows if row["task"] == task]
        total = {name: sum(row[name] for row in mine) for name in _SUMMED}
        alone = total["grid"] / total["alone"]
        both = (total["grid"] + total["free_grid"]) / (total["run"] + total["free_run"])
        lines.append(
            f"{task:20s} success alone {alone:.1f}-fold fewer rows (wanted {wanted(task):g}:"
            f" {'yes' if alone >= wanted(task) else 'NO'}), both choices {both:.1f}-fold; CPU race"
            f" {total['race_seconds']:.1f} s, full grid {total['full_seconds']:.1f} s"
        )
    same = {name: sum(bool(row[name]) for row in rows) for name in ("same", "same_limited")}
    chance = max((max(row["chance"], row["chance_limited"]) for row in rows), default=0.0)
    return "\n".join(
        (
            *lines,
            f"same cell: success alone {same['same']} of {len(rows)}, limited"
            f" {same['same_limited']} of {len(rows)}; largest chance of a lost cell {chance:.3f}",
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "runs", type=Path, help="folder of a preset: <task>/seed<k>/06_intervention"
    )
    parser.add_argument("--tasks", nargs="*", help="these tasks alone")
    parser.add_argument("--seeds", nargs="*", help="these seeds alone")
    parser.add_argument("--directions", nargs="*", choices=DIRECTIONS, default=list(DIRECTIONS))
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    folders = sorted(args.runs.glob("*/seed*/06_intervention"))
    if not folders:
        parser.error(f"{args.runs} holds no finished lab 06; run the study first")
    outcome = Outcome(args.out, about(sys.argv[1:]))
    for folder in folders:
        task, seed = folder.parts[-3], folder.parts[-2].removeprefix("seed")
        if (args.tasks and task not in args.tasks) or (args.seeds and seed not in args.seeds):
            continue
        directions = [d for d in outcome.left(task, seed) if d in args.directions]
        if not directions:
            continue
        run = FinishedRun(folder.parent)
        if run["06_intervention"].parameters.numerics == "portable":
            use_onednn()
        for one in measured(run, directions):
            outcome.add({"task": task, "seed": seed} | one)
            print(line(outcome.rows[-1]), flush=True)
    print(summary(outcome.rows))


if __name__ == "__main__":
    main()
