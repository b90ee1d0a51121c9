"""The committed scoreboard of every method, and pruning at its home, as chapter 13 shows them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from memgen.claims.committed import board_evidence, judged_board
from memgen.claims.evidence import Evidence
from memgen.claims.ledger import verdict_on
from memgen.claims.quantities.rivals import PAPER, beyond
from memgen.claims.quantities.rows import by_seed
from memgen.figures.scoreboard import every_cost, every_method
from memgen.figures.style import Drawing
from memgen.pipeline.rivals import HOME, PLACE, RESULTS, read_board
from memgen.stats.over_seeds import Effect, of_a_share
from memgen.store.files import read_json
from memgen.terms import DIRECTIONS
from press.numbers import JOIN, SPACE, per_cent, processors

KEPT = "kept"
CELL = ["method", "task", "direction", "seed"]  # of one track


@dataclass(frozen=True)
class Reached:
    """Success within the limit on one task in one direction, over seeds: `effect`, as the ledger does it.

    A seed in which no candidate is within the limit counts as turning nothing. `side`: `more`, `fewer` or
    empty: against the paper's neurons on the same prompts, if the interval over seeds excludes 0.
    """

    effect: Effect
    side: str = ""

    def __str__(self) -> str:
        x = self.effect
        inside = f" ({per_cent(x.low)}{JOIN}–{JOIN}{per_cent(x.high)})" if x.low == x.low else ""
        return f"{per_cent(x.value)}{SPACE}%{inside}{f' {self.side}' if self.side else ''}"


@dataclass(frozen=True)
class Row:
    """One method: what it reached by direction and task, CPU seconds of a run, and the most candidates.

    No direction: it has none.
    """

    name: str
    title: str
    kind: str
    success: dict[str, dict[str, Reached]]
    seconds: float
    candidates: int


@dataclass(frozen=True)
class WholeBoard:
    """`rows` in the order of the table, of models from scratch, and `figures` of them; `adapters`: of track
    lora; `home`: a row per share of units that is cut.

    `prompts`, `keys`: fewest and most behind a seed's rate; `claims`: as judged.

    All empty before the runs were made.
    """

    rows: list[Row] = field(default_factory=list)
    figures: list[Drawing] = field(default_factory=list)
    prompts: tuple[int, int] = (0, 0)
    keys: tuple[int, int] = (0, 0)
    adapters: list[Row] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    seeds: int = 0
    claims: list[dict] = field(default_factory=list)
    command: str = ""
    machine: str = ""
    home: list[dict[str, dict[str, float]]] = field(default_factory=list)
    home_seeds: int = 0

    @property
    def n_tasks(self) -> int:
        return len(self.tasks)

    def verdict(self, claim: str, task: str) -> str:
        """Of a claim on the scoreboard, over these runs."""
        return verdict_on(self.claims, claim, task) or "not tested"

    def most(self, direction: str, kind: str) -> list[float]:
        """By task the most that any method of a kind reached: chosen on what is reported, so it flatters."""
        rows = [row.success[direction] for row in self.having(direction, kind)]
        tried = [[of[task].effect.value for of in rows if task in of] for task in self.tasks]
        return [max(values) for values in tried if values]

    def having(self, direction: str, kind: str = "", adapters: bool = False) -> list[Row]:
        """The methods that work in this direction, of one kind if it is named."""
        rows = self.adapters if adapters else self.rows
        return [row for row in rows if direction in row.success and kind in ("", row.kind)]


def of_kind(methods: dict[str, dict], kind: str) -> list[tuple[str, dict]]:
    """Of a board's methods, by name what is said of each, those that steer, that edit, or the nulls."""
    return [(name, about) for name, about in methods.items() if about["kind"] == kind]


def whole_board(root: Path, source: Path | None = None) -> WholeBoard:
    """What lies in `data/reference/rivals` of the repository; its figures are staged in `source`."""
    folder = root / PLACE
    found: dict = {}
    if (folder / RESULTS).is_file():
        table, about = read_board(folder / RESULTS), read_json(folder / "about.json")
        own = table[table.track == "scratch"]
        found |= {
            "rows": _rows(own, board_evidence(table)),
            "figures": _figures(own, source) if source else [],
            "prompts": (int(own.n.min()), int(own.n.max())),
            "keys": (int(own.n_keys.min()), int(own.n_keys.max())),
            "adapters": _rows(table[table.track == "lora"], board_evidence(table, "lora")),
            "tasks": list(table.task.unique()),
            "seeds": int(table.groupby("task").seed.nunique().max()),
            "claims": judged_board(table),
            "command": about["command"],
            "machine": processors(about["machine"]),
        }
    if (folder / HOME).is_file():
        home = pd.read_csv(folder / HOME)
        found |= {"home": _home(home), "home_seeds": home.seed.nunique()}
    return WholeBoard(**found)


def _figures(table: pd.DataFrame, source: Path) -> list[Drawing]:
    drawn = [every_method(table), every_cost(table)]
    for one in drawn:
        one.save(source / "figures" / f"{one.name}.png")
    return drawn


def _rows(table: pd.DataFrame, evidence: Evidence) -> list[Row]:
    """Of one track, the methods in the order of the table; `evidence`: its boards, for pairs of methods."""
    kept = table[table.choice == KEPT].fillna({"success": 0.0})
    # both choices ask the same prompts, and where nothing is kept the other one says which
    asked = table.groupby(CELL)[["n", "n_keys"]].max()
    return [
        _row(table[table.method == name], of, asked, evidence)
        for name, of in kept.groupby("method", sort=False)
    ]


def _row(every: pd.DataFrame, kept: pd.DataFrame, asked: pd.DataFrame, evidence: Evidence) -> Row:
    first = every.iloc[0]
    success: dict[str, dict[str, Reached]] = {}
    for direction in DIRECTIONS:
        own = kept[kept.direction == direction]
        for task, of in own.groupby("task", sort=False):
            behind = asked.loc[pd.MultiIndex.from_frame(of[CELL])].astype(int)
            effect = by_seed(of.success.tolist(), behind.n.tolist(), behind.n_keys.tolist())
            gained = beyond(evidence, str(task), direction, str(first.method), PAPER)
            side = "more" if gained.low > 0 else "fewer" if gained.high < 0 else ""
            success.setdefault(direction, {})[str(task)] = Reached(of_a_share(effect), side)
    seconds = kept.groupby(["task", "seed"]).seconds.sum().mean()  # of a run: both directions
    return Row(
        str(first.method),
        first.title,
        first.kind,
        success,
        float(seconds),
        int(every.candidates.max()),
    )


def _home(table: pd.DataFrame) -> list[dict[str, dict[str, float]]]:
    """By share that is cut: `cut`, and by order what is left, means over seeds."""
    left = ["unseen_right", "wrong_as_taught", "wrong_put_right"]
    means = table.groupby(["cut", "order"], sort=False)[left].mean()
    return [
        {"cut": {"share": float(cut)}}
        | {str(order): one.droplevel(0).loc[order].to_dict() for order in one.droplevel(0).index}
        for cut, one in means.groupby(level=0)
    ]
