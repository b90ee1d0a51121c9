"""The committed scale sweep for its page: rows, counts, figure, and how it was made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from memgen.figures.scale import against_size
from memgen.pipeline.scale import SIZES
from memgen.terms import DIRECTIONS
from press.committed import Committed, staged
from press.numbers import SPACE, processors
from press.sentences import Share

SPANNED = ("auc", "forecast_auc", *DIRECTIONS)


@dataclass(frozen=True)
class Sweep(Committed):
    """`rows`: by task and size, means over seeds that passed, or None; empty before the sweep."""

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Every width and depth that was run, once."""
        return list(dict.fromkeys((row["width"], row["depth"]) for row in self.rows))

    @property
    def n_sizes(self) -> int:
        return len(self.sizes)

    @property
    def missing(self) -> list[str]:
        """The sizes of the sweep that have not been run yet."""
        return [f"{w} × {d}" for w, d in SIZES if (w, d) not in self.sizes]

    @property
    def known(self) -> list[dict]:
        """The rows with a model, the smallest first."""
        return sorted((r for r in self.rows if r["passed"]), key=lambda r: r["n_parameters"])

    @property
    def failed(self) -> list[dict]:
        return [row for row in self.rows if not row["passed"]]

    @property
    def seeds(self) -> int:
        """The most seeds of any row."""
        return max(row["seeds"] for row in self.rows)

    @property
    def turned(self) -> list[dict]:
        """Rows of the table of steering: by model and direction, success and what stands beside it."""
        names = ("kept", "most", "free", "free_within", "free_most", "control", "forbidden", "n")
        return [
            {name: row[name] for name in ("task", "size", "passed")}
            | {"direction": direction, "within": row[direction]}
            | {name: row[f"{direction}_{name}"] for name in names}
            for row in self.rows
            if row["passed"]
            for direction in DIRECTIONS
        ]

    @property
    def by_machine(self) -> list[dict[str, str]]:
        """Where each size was run: `machine`, and the `commands` of its sizes, a line each."""
        found: dict[str, list[str]] = {}
        for one in self.about["sizes"].values():
            found.setdefault(processors(one["machine"]), []).append(one["command"])
        return [{"machine": name, "commands": "\n".join(lines)} for name, lines in found.items()]

    def by_task(self) -> dict[str, dict[str, list]]:
        """AUC, the forecast beside it, and both directions of every model by task, the smallest first."""
        found: dict[str, dict[str, list]] = {}
        for row in self.known:
            of_task = found.setdefault(row["task"], {name: [] for name in SPANNED})
            for name, values in of_task.items():
                values.append(row[name])
        return found

    def leads(self, name: str, other: str) -> Share:
        """In how many rows a mean exceeds another one: a count of means, no verdict."""
        pairs = [(row[name], row[other]) for row in self.known]
        return Share(sum(None not in pair and pair[0] > pair[1] for pair in pairs), len(pairs))


def sweep(root: Path, source: Path) -> Sweep:
    """The sweep in `data/reference/scale`, its figure staged in `source`."""
    return staged(Sweep, "scale", (root, source), against_size, _rows)


def _rows(table: pd.DataFrame) -> list[dict]:
    return [
        _row(runs)
        | {"task": task, "width": width, "depth": depth}
        | {"size": f"{width}{SPACE}×{SPACE}{depth}"}  # in one line of a narrow cell
        for (task, width, depth), runs in table.groupby(["task", "width", "depth"], sort=False)
    ]


def _row(runs: pd.DataFrame) -> dict:
    known = runs[runs.passed]
    means = {
        name: float(x) if x == x else None for name, x in known.mean(numeric_only=True).items()
    }
    counts = {f"{d}_n": int(known[f"{d}_n"].sum()) for d in DIRECTIONS}
    counts |= {f"{d}_kept": int(known[f"{d}_kept"].eq(True).sum()) for d in DIRECTIONS}
    return means | counts | {"passed": len(known), "seeds": len(runs)}
