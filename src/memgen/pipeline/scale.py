"""The scale sweep: differentiation, prediction and steering against the size of the model.

    python -m memgen.scale run --seeds 6 7       train and question every size, in data/runs/scale/<width>x<depth>
    python -m memgen.scale collect               write data/reference/scale/results.csv from what has finished

A size at which no checkpoint passes the gate is part of the result: its row says so, and the sweep
goes on.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import pandas as pd

from memgen.config.base import ROOT, SEEDS
from memgen.errors import ArtifactError, StudyError
from memgen.pipeline.plan import Plan
from memgen.pipeline.reference import machine
from memgen.pipeline.runner import run_labs
from memgen.progress import duration
from memgen.stages import BASE, LABS
from memgen.store.files import read_json, write_json
from memgen.store.folders import study_folder

#: width and depth, smallest first: 0.2, 0.4, 0.8, 1.8, 3.2, 6.3 and 10.6 million parameters in the
#: blocks
SIZES = ((64, 4), (128, 2), (128, 4), (192, 4), (256, 4), (256, 8), (384, 6))
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
        stages=[BASE, *LABS["06_intervention"].reads, "05_prediction", "06_intervention"],
    )


def run(
    sizes: list[tuple[int, int]], seeds: list[int], runs: str, jobs: int, preset: str = "scale"
) -> list[str]:
    """Run every size; returns the messages of those that failed in part."""
    failed, began = [], time.monotonic()
    for number, (width, depth) in enumerate(sizes, start=1):
        print(
            f"size {number} of {len(sizes)}: width {width}, depth {depth}"
            f" ({duration(time.monotonic() - began)} so far)",
            flush=True,
        )
        try:
            run_labs(plan_of(width, depth, seeds, runs, preset), jobs)
        except ArtifactError:
            raise
        except StudyError as error:
            failed.append(f"{width}x{depth}: {error}")
            print(error, file=sys.stderr, flush=True)
    return failed


def collect(runs: str, preset: str = "scale") -> pd.DataFrame:
    """One row a size, task and seed that has ended: its numbers, or `passed` False where training
    failed (no checkpoint passed the gate).
    """
    rows = []
    for width, depth in SIZES:
        for task in TASKS:
            for folder in sorted(
                study_folder(f"{runs}/{width}x{depth}", preset).glob(f"{task}/seed*")
            ):
                if (
                    not (folder / "06_intervention" / "result.json").is_file()
                    and not (folder / "02_training.failed.ipynb").is_file()
                ):
                    continue  # interrupted, or still running
                rows.append(
                    {
                        "width": width,
                        "depth": depth,
                        "task": task,
                        "seed": int(folder.name.removeprefix("seed")),
                        **_numbers(folder),
                    }
                )
    if not rows:
        raise ArtifactError(f"{runs} holds no run of the scale sweep; `make scale` makes one")
    return pd.DataFrame(rows)


def _numbers(folder: Path) -> dict:
    def of(stage: str) -> dict:
        path = folder / stage / "result.json"
        return read_json(path) if path.is_file() else {}

    training, states, probes, steering = (
        of(stage)
        for stage in ("02_training", "04_differentiation", "05_prediction", "06_intervention")
    )
    found = {
        "passed": bool(training),
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


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m memgen.scale",
        description="Differentiation, prediction and steering against model size.",
    )
    parser.add_argument("command", choices=("run", "collect"))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument(
        "--sizes",
        nargs="+",
        default=[f"{w}x{d}" for w, d in SIZES],
        help="width x depth, such as 128x4",
    )
    parser.add_argument("--runs", default="data/runs/scale")
    parser.add_argument("--preset", default="scale")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=TARGET)
    arguments = parser.parse_args(argv)
    known = {f"{w}x{d}": (w, d) for w, d in SIZES}
    try:
        for size in arguments.sizes:
            if size not in known:
                raise StudyError(f"size {size!r} is unknown; choose from {', '.join(known)}")
        if arguments.command == "run":
            failed = run(
                [known[size] for size in arguments.sizes],
                arguments.seeds,
                arguments.runs,
                arguments.jobs,
                arguments.preset,
            )
            print(f"finished; {len(failed)} sizes with a run that did not pass")
            return 0
        table = collect(arguments.runs, arguments.preset)
        arguments.out.mkdir(parents=True, exist_ok=True)
        table.to_csv(arguments.out / "results.csv", index=False, float_format="%.6g")
        seeds = " ".join(map(str, sorted(table.seed.unique())))
        write_json(
            arguments.out / "about.json",
            {
                "command": f'make scale SEEDS="{seeds}"',
                **machine(ROOT / arguments.runs, "02_training"),
            },
        )
        print(
            f"wrote {arguments.out / 'results.csv'}: {len(table)} runs, {int(table.passed.sum())}"
            " passed the gate"
        )
        return 0
    except StudyError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
