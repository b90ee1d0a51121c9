"""Does the race choose the cells of the full grid, and on how many of its rows?

On finished runs: lab 06's own grid, prompts and model, both choices (success alone; the most
successful cell that loses at most the limit's share of the free prompts). The full grid is every cell
on every validation prompt; for the second choice every cell on every free prompt, too. What it
chooses is found by running every cell on every validation prompt, and then, from the best cell
downwards, on all free prompts, until one is within the limit.

A line a task, seed and direction: both choices, rows of rows, the printed chance of having lost the
best cell, and CPU seconds of race and full grid. Then the folds by task, and how many choices agree.

    python tests/benchmarks/bench_race.py data/runs/laptop
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from memgen.labs.intervention import prompts_to_turn
from memgen.steering.cells import grid
from memgen.steering.choice import Collateral, choose
from memgen.steering.steering import Steering
from memgen.store.products import use_onednn
from memgen.store.reader import FinishedRun
from memgen.tasks.dataset import free_rows
from memgen.terms import DIRECTIONS, RULE_CODE, SIGN, TARGET

FOLDS = {"tagged": 10.0}  # of the rows for success alone, by a part of the task's name
FOLD = 5.0


def full_grid(steering: Steering, shifts: np.ndarray, tuning, direction: str, free: Collateral):
    """`(most successful, most successful within the limit or None)`, of equal cells the first."""
    won = (steering.outcomes(shifts, tuning) == TARGET[direction]).sum(1)
    order = np.argsort(-won, kind="stable")
    for cell in order:
        right = (steering.outcomes(shifts[cell][None], free.rows) == RULE_CODE).sum()
        if right >= free.enough:
            return int(order[0]), int(cell)
    return int(order[0]), None


def measured(run: FinishedRun) -> list[dict]:
    """A row a direction."""
    p = run["06_intervention"].parameters
    steering = Steering.of(run, p.site, p.positions)
    tuning = prompts_to_turn(run.answered(), "validation", p.n_prompts)
    free = free_rows(run.dataset(), "validation", p.n_free_validation)
    collateral = Collateral(steering, free, p.collateral_limit)
    cells = grid(p.alphas, p.top_ns, steering.nmd, steering.rho)
    found = []
    for d in DIRECTIONS:
        began = time.process_time()
        choice = choose(steering, cells, tuning[d], d, [collateral])
        raced = time.process_time()
        shifts = SIGN[d] * np.stack([steering.shift(cell) for cell in cells])
        best, kept = full_grid(steering, shifts, tuning[d], d, collateral)
        full = time.process_time()
        row = {"max": choice.max == cells[best], "risk": choice.risk} | choice.rows
        row |= {"kept": choice.kept == (None if kept is None else cells[kept])}
        found.append(row | {"race": raced - began, "full": full - raced})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "runs", type=Path, help="folder of a preset: <task>/seed<k>/06_intervention"
    )
    parser.add_argument("--tasks", nargs="*", help="these tasks alone")
    parser.add_argument("--seeds", nargs="*", help="these seeds alone")
    args = parser.parse_args()
    rows = []
    for folder in sorted(args.runs.glob("*/seed*/06_intervention")):
        task, seed = folder.parts[-3], folder.parts[-2].removeprefix("seed")
        if (args.tasks and task not in args.tasks) or (args.seeds and seed not in args.seeds):
            continue
        run = FinishedRun(folder.parent)
        if run["06_intervention"].parameters.numerics == "portable":
            use_onednn()
        for d, one in zip(DIRECTIONS, measured(run)):
            rows.append(one | {"task": task})
            every, of = one["run"] + one["free_run"], one["grid"] + one["free_grid"]
            print(
                f"{task:20s} {seed:>3s} {d}  success alone {'same' if one['max'] else 'LOST'}"
                f" ({one['alone']} of {one['grid']} rows, {one['grid'] / one['alone']:.1f}-fold; chance"
                f" {one['risk']['max']:.3f})  limited {'same' if one['kept'] else 'LOST'} (both: {every} of"
                f" {of}, {of / every:.1f}-fold; chance {one['risk']['kept']:.3f})  CPU"
                f" {one['race']:.1f} s, full {one['full']:.1f} s",
                flush=True,
            )
    for task in dict.fromkeys(row["task"] for row in rows):
        mine = [row for row in rows if row["task"] == task]
        total = {name: sum(row[name] for row in mine) for name in rows[0] if name in _SUMMED}
        alone = total["grid"] / total["alone"]
        both = (total["grid"] + total["free_grid"]) / (total["run"] + total["free_run"])
        wanted = next((fold for part, fold in FOLDS.items() if part in task), FOLD)
        print(
            f"{task:20s} success alone {alone:.1f}-fold fewer rows (wanted {wanted:g}), both choices"
            f" {both:.1f}-fold; CPU race {total['race']:.1f} s, full grid {total['full']:.1f} s"
        )
    same = {name: sum(row[name] for row in rows) for name in ("max", "kept")}
    print(
        f"same cell: success alone {same['max']} of {len(rows)}, limited {same['kept']} of {len(rows)}"
    )


_SUMMED = ("run", "grid", "alone", "free_run", "free_grid", "race", "full")

if __name__ == "__main__":
    main()
