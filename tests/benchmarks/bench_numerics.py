"""What does `numerics=portable` cost? CPU seconds of the labs of a run, both ways in one sitting.

Every lab of a run of preset laptop (`--tasks`, `--seed`), with the base that it starts from, computed
in a folder of its own with the machine's fastest kernels and again with the portable ones. Both ways
run at the same time, one lab at a time each, so that whatever else the machine does slows both. The
seconds are those that the manifests record. Writes `data/reference/numerics/results.csv`, a row by
numerics, task and lab, and beside it how it was made; the page *Re-execute* reads them.

    python tests/benchmarks/bench_numerics.py --tasks arithmetic-tagged inference --seed 23
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from memgen.config.base import ROOT
from memgen.pipeline.profile import profile_of
from memgen.pipeline.reference import machine
from memgen.store.artifacts import MANIFEST
from memgen.store.files import write_json
from memgen.store.reader import FinishedStage

TARGET = ROOT / "data" / "reference" / "numerics"
KERNELS = ("native", "portable")


def seconds(numerics: str, runs: Path, tasks: list[str], seed: int) -> pd.DataFrame:
    """Run the labs; a row each: numerics, task, lab, CPU seconds."""
    command = [sys.executable, "-m", "memgen.pipeline.cli", "labs", "--preset", "laptop"]
    command += ["--tracks", "scratch", "--seeds", str(seed), "--runs", str(runs), "--jobs", "1"]
    command += ["--tasks", *tasks, "--set", f"numerics={numerics}"]
    subprocess.run(command, check=True)
    folders = sorted(path.parent for path in runs.glob(f"**/{MANIFEST}"))
    rows = []
    for folder in folders:
        spent = profile_of([FinishedStage(folder)])
        task = folder.parents[1].name
        rows.append((numerics, task, folder.name, float(spent.seconds.sum())))
    return pd.DataFrame(rows, columns=["numerics", "task", "lab", "cpu_seconds"])


def main() -> None:
    """Measure, write, and print the ratio."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tasks", nargs="+", default=["arithmetic-tagged", "inference"])
    parser.add_argument("--seed", type=int, default=23)
    o = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        with ThreadPoolExecutor(len(KERNELS)) as both:
            asked = [both.submit(seconds, k, Path(folder) / k, o.tasks, o.seed) for k in KERNELS]
        found = [one.result() for one in asked]
        about = machine(Path(folder) / KERNELS[0], "02_training")
    del about["numerics"]
    table = pd.concat(found, ignore_index=True)
    TARGET.mkdir(parents=True, exist_ok=True)
    table.to_csv(TARGET / "results.csv", index=False, float_format="%.6g")
    command = f"python tests/benchmarks/bench_numerics.py --tasks {' '.join(o.tasks)}"
    write_json(TARGET / "about.json", {"command": f"{command} --seed {o.seed}"} | about)
    total = table.groupby("numerics").cpu_seconds.sum()
    print(total.round(1).to_string())
    print(f"portable / native: {total['portable'] / total['native']:.2f}")


if __name__ == "__main__":
    main()
