"""Lab 15's vectors on the models of other tasks: their table in `data/reference/rivals/`.

python -m memgen.pipeline.carried_vectors [runs [folder]]      ten CPU seconds a seed; part of `make rivals`
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from memgen.errors import ArtifactError
from memgen.labs.across_tasks import LAB, across_tasks
from memgen.pipeline.rivals import CARRIED, PRESET, TARGET, home_of
from memgen.pipeline.sweep import ended_runs
from memgen.store.folders import study_folder
from memgen.store.reader import FinishedRun
from memgen.tasks import TASK_NAMES


def by_seed(runs: str, preset: str) -> dict[int, dict[str, FinishedRun]]:
    """By seed, and by task, the runs from scratch whose vectors were fitted."""
    home = study_folder(home_of(runs), preset)
    found: dict[int, dict[str, FinishedRun]] = {}
    for task in TASK_NAMES:
        for seed, run in ended_runs(home, task, LAB):
            if run[LAB].exists:  # else left out: its model did not show both behaviours
                found.setdefault(seed, {})[task] = run
    return dict(sorted(found.items()))


def write(runs: str, out: Path, preset: str = PRESET) -> None:
    """Try them, and write a row per seed, source, target, direction and method to the folder `out`."""
    found = []
    for seed, of in by_seed(runs, preset).items():
        found.append(across_tasks(of).assign(seed=seed))
        print(f"seed {seed}: the vectors of {len(of)} tasks, each on all of them", flush=True)
    if not found:
        raise ArtifactError(f"{runs} holds no lab 15 that has ended; `make rivals` makes them")
    out.mkdir(parents=True, exist_ok=True)
    table = pd.concat(found, ignore_index=True)
    table.to_csv(out / CARRIED, index=False, float_format="%.6g")
    print(f"wrote {out / CARRIED}: {len(table)} rows")


if __name__ == "__main__":
    given = sys.argv[1:]
    write(given[0] if given else "data/runs", Path(given[1]) if given[1:] else TARGET)
