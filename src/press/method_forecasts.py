"""The forecast of steering for every method of the committed scoreboard, as chapter 16 shows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from memgen.claims.quantities.multiverse import LAB
from memgen.pipeline.rivals import PLACE, RESULTS, read_board, table_of
from memgen.stats.forecasts import PREDICTORS, foretold
from memgen.terms import DIRECTIONS
from press.numbers import decimal
from press.whole_board import KEPT

SEED = 0  # of random orders, of which there are none with few tasks
RARE = 0.05


@dataclass(frozen=True)
class MethodForecasts:
    """`rows`: by method its title and a cell per direction and predictor, `0.90 (0.04)`: Spearman over the
    tasks, and the share of orders of the tasks that give as much. `rare` of `n` shares are at most 0.05.
    """

    rows: list[dict[str, str]] = field(default_factory=list)
    n_tasks: int = 0
    n: int = 0
    rare: int = 0

    @property
    def expected(self) -> float:
        """How many shares chance alone makes so small, at most."""
        return self.n * RARE


def method_forecasts(root: Path) -> MethodForecasts:
    """From `data/reference/rivals` of the repository: methods that steer, models from scratch.

    Success is within the limit on lost free prompts, 0 where no candidate keeps it.
    """
    folder = root / PLACE
    if not all((folder / name).is_file() for name in (RESULTS, table_of(LAB))):
        return MethodForecasts()
    board, ahead = read_board(folder / RESULTS), pd.read_csv(folder / table_of(LAB))
    board = board[(board.kind == "steering") & (board.choice == KEPT)]
    columns = {f"forecast.{name}": name for name in PREDICTORS}
    known = ahead[["track", "task", "seed", *columns]].rename(columns=columns)
    table = board.fillna({"success": 0.0}).merge(known, on=["track", "task", "seed"])
    table = table[table.track == "scratch"]
    rows, shares = [], []
    for title, of in table.groupby("title", sort=False):
        told, row = foretold(of, SEED), {"title": str(title)}
        for direction in DIRECTIONS:
            for name in PREDICTORS:
                one = told[direction][name]
                shares += [] if one["p"] is None else [one["p"]]
                row[f"{direction}.{name}"] = _cell(one)
        rows.append(row)
    rare = sum(share <= RARE for share in shares)
    return MethodForecasts(rows, int(table.task.nunique()), len(shares), rare)


def _cell(one: dict) -> str:
    if one["value"] is None:
        return "n/a"
    return f"{decimal(one['value'])} ({decimal(one['p'])})"
