"""Committed runs of a lab that a study runs for its first seed alone, as the lab's chapter shows them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from memgen.claims.committed import TRACK, judged_runs
from memgen.claims.ledger import verdict_on
from memgen.pipeline.rivals import NUMBERS, PLACE, table_of
from memgen.store.files import read_json
from press.numbers import NOTHING, cell_of, processors


@dataclass(frozen=True)
class CommittedRuns:
    """`table`: a row per task and seed of models from scratch, a column per number; `claims`: as judged.

    `command`, `machine`: what made them. All empty before the runs were made.
    """

    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    claims: list[dict] = field(default_factory=list)
    command: str = ""
    machine: str = ""

    @property
    def tasks(self) -> list[str]:
        return list(self.table.task.unique()) if len(self.table) else []

    @property
    def n_tasks(self) -> int:
        return len(self.tasks)

    @property
    def n_seeds(self) -> int:
        """Of the task that has most."""
        return int(self.table.groupby("task").seed.nunique().max())

    def cell(self, task: str, key: str, digits: int | None = None) -> str:
        """Mean over seeds with the range, as `Numbers.cell` writes it; `n/a` of what no run holds."""
        if key not in self.table:
            return NOTHING
        return cell_of(self.table[key][self.table.task == task].dropna().tolist(), digits)

    def verdict(self, claim: str, case: str) -> str:
        """Of a claim on one case (mostly a task), over these seeds."""
        return verdict_on(self.claims, claim, case) or "not tested"


def committed_runs(root: Path, stage: str) -> CommittedRuns:
    """The lab's runs in `data/reference/rivals` of the repository."""
    folder = root / PLACE
    tables = {
        name: pd.read_csv(path) for name in NUMBERS if (path := folder / table_of(name)).is_file()
    }
    if stage not in tables:
        return CommittedRuns()
    about, table = read_json(folder / "about.json"), tables[stage]
    own = table[table.track == TRACK].reset_index(drop=True)
    return CommittedRuns(own, judged_runs(tables), about["command"], processors(about["machine"]))
