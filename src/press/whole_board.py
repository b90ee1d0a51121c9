"""The committed scoreboard of every method, and pruning at its home, as chapter 13 shows them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from memgen.pipeline.rivals import HOME, RESULTS
from memgen.store.files import read_json
from memgen.terms import DIRECTIONS

KEPT = "kept"


@dataclass(frozen=True)
class Row:
    """One method: success within the limit by direction and task, mean over seeds; CPU seconds of a run.

    A seed in which no candidate is within the limit counts as turning nothing. No direction: it has none.
    """

    name: str
    title: str
    kind: str
    success: dict[str, dict[str, float]]
    seconds: float


@dataclass(frozen=True)
class WholeBoard:
    """`rows` in the order of the table, of models from scratch; `adapters`: of track lora; `home`: a row per
    share of units that is cut.

    All empty before the runs were made.
    """

    rows: list[Row] = field(default_factory=list)
    adapters: list[Row] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    seeds: int = 0
    command: str = ""
    machine: str = ""
    home: list[dict[str, dict[str, float]]] = field(default_factory=list)
    home_seeds: int = 0

    @property
    def n_tasks(self) -> int:
        return len(self.tasks)

    def having(self, direction: str, adapters: bool = False) -> list[Row]:
        """The methods that work in this direction."""
        rows = self.adapters if adapters else self.rows
        return [row for row in rows if direction in row.success]


def of_kind(methods: dict[str, dict], kind: str) -> list[tuple[str, dict]]:
    """Of a board's methods, by name what is said of each, those that steer, that edit, or the nulls."""
    return [(name, about) for name, about in methods.items() if about["kind"] == kind]


def whole_board(root: Path) -> WholeBoard:
    """What lies in `data/reference/rivals` of the repository."""
    folder = root / "data" / "reference" / "rivals"
    found: dict = {}
    if (folder / RESULTS).is_file():
        table, about = pd.read_csv(folder / RESULTS), read_json(folder / "about.json")
        machine = about["machine"]
        found |= {
            "rows": _rows(table[table.track == "scratch"]),
            "adapters": _rows(table[table.track == "lora"]),
            "tasks": list(table.task.unique()),
            "seeds": int(table.groupby("task").seed.nunique().max()),
            "command": about["command"],
            "machine": f"{machine['cores']} cores of {machine['processor']}",
        }
    if (folder / HOME).is_file():
        home = pd.read_csv(folder / HOME)
        found |= {"home": _home(home), "home_seeds": home.seed.nunique()}
    return WholeBoard(**found)


def _rows(table: pd.DataFrame) -> list[Row]:
    return [_row(str(name), of) for name, of in table.groupby("method", sort=False)]


def _row(name: str, rows: pd.DataFrame) -> Row:
    kept = rows[rows.choice == KEPT].fillna({"success": 0.0})
    success = {
        direction: {str(t): float(x) for t, x in of.groupby("task").success.mean().items()}
        for direction in DIRECTIONS
        if len(of := kept[kept.direction == direction])
    }
    # of a run: both directions
    seconds = kept.groupby(["task", "seed"]).seconds.sum().mean()
    first = rows.iloc[0]
    return Row(name, first.title, first.kind, success, float(seconds))


def _home(table: pd.DataFrame) -> list[dict[str, dict[str, float]]]:
    """By share that is cut: `cut`, and by order what is left, means over seeds."""
    left = ["unseen_right", "wrong_as_taught", "wrong_put_right"]
    means = table.groupby(["cut", "order"], sort=False)[left].mean()
    return [
        {"cut": {"share": float(cut)}}
        | {str(order): one.droplevel(0).loc[order].to_dict() for order in one.droplevel(0).index}
        for cut, one in means.groupby(level=0)
    ]
