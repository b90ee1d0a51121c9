"""The committed scale sweep for its page: rows, counts, figure, and how it was made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from memgen.figures.scale import against_size
from memgen.pipeline.scale import SIZES
from memgen.terms import DIRECTIONS
from press.committed import Committed, staged
from press.sentences import Share


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

    def by_task(self) -> dict[str, dict[str, list]]:
        """`AUC` and m2g of every model by task, the smallest first."""
        found: dict[str, dict[str, list]] = {}
        for row in self.known:
            of_task = found.setdefault(row["task"], {"auc": [], "m2g": []})
            for name, values in of_task.items():
                values.append(row[name])
        return found

    def leads(self, direction: str) -> Share:
        """In how many rows mean success exceeds the mean strongest control's: no verdict."""
        pairs = [(row[direction], row[f"{direction}_control"]) for row in self.known]
        return Share(sum(None not in pair and pair[0] > pair[1] for pair in pairs), len(pairs))


def sweep(root: Path, source: Path) -> Sweep:
    """The sweep in `data/reference/scale`, its figure staged in `source`."""
    return staged(Sweep, "scale", (root, source), against_size, _rows)


def _rows(table: pd.DataFrame) -> list[dict]:
    return [
        _row(runs) | {"task": task, "width": width, "depth": depth}
        for (task, width, depth), runs in table.groupby(["task", "width", "depth"], sort=False)
    ]


def _row(runs: pd.DataFrame) -> dict:
    known = runs[runs.passed]
    means = {
        name: float(x) if x == x else None for name, x in known.mean(numeric_only=True).items()
    }
    n = {f"{d}_n": int(known[f"{d}_n"].sum()) for d in DIRECTIONS}
    return means | n | {"passed": len(known), "seeds": len(runs)}
