"""Claims that a study by itself leaves open, judged on committed runs: the same rule reads their tables.

A claim needs several seeds, and a study runs some labs for its first one alone; and it needs its methods, of
which a study runs the quick ones. `make rivals` left the tables in `data/reference/rivals`; the verdict is
made anew from the numbers each time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from memgen.claims.catalogue import CLAIMS
from memgen.claims.evidence import Evidence
from memgen.claims.ledger import judge
from memgen.claims.quantities.rivals import BOARD
from memgen.stages import LABS
from memgen.terms import DIRECTIONS

TRACK = "scratch"


def judged_runs(tables: Mapping[str, pd.DataFrame]) -> list[dict]:
    """The claims whose page is one of these labs, if a study runs it for its first seed alone.

    `tables`: by lab a row per `track`, `task` and `seed`, and a column per number, named by its path in
    `result.json` (`m2g.methods.held.n`); those of track scratch count.
    """
    evidence = Evidence(_results(tables), *[pd.DataFrame()] * 4, later={}, track=TRACK)
    named = [name for name in tables if LABS[name].seeds == "first"]
    return [judge(claim, evidence) for claim in CLAIMS if claim.page in named]


def judged_board(table: pd.DataFrame) -> list[dict]:
    """The claims on the scoreboard, of a table with every method; those of track scratch count."""
    evidence = board_evidence(table)
    return [judge(claim, evidence) for claim in CLAIMS if claim.page == BOARD]


def board_evidence(table: pd.DataFrame, track: str = TRACK) -> Evidence:
    """The boards of a track, as far as one method is held against another.

    `table`: a row per `track`, `task`, `seed`, `method`, `direction` and `choice`, with `success` (none: no
    candidate is within the limit), `n` and `n_keys`.
    """
    found: dict[str, dict[int | str, dict[str, dict]]] = {}
    own = table[table.track == track]
    for (task, seed), run in own.groupby(["task", "seed"], sort=False):
        board: dict = {d: {"rows": {}} for d in DIRECTIONS}
        for row in run.itertuples():
            of = board[row.direction]["rows"].setdefault(row.method, {"max": None, "kept": None})
            if not pd.isna(row.success):
                asked = {"success": row.success, "n": int(row.n), "n_keys": int(row.n_keys)}
                of[row.choice] = asked
        found.setdefault(str(task), {})[int(seed)] = {BOARD: board}
    return Evidence(found, *[pd.DataFrame()] * 4, later={}, track=track)


def _results(tables: Mapping[str, pd.DataFrame]) -> dict[str, dict[int | str, dict[str, dict]]]:
    """`results[task][seed][stage]`, as the labs had written them, less what no column holds."""
    found: dict[str, dict[int | str, dict[str, dict]]] = {}
    for stage, table in tables.items():
        rows = table[table.track == TRACK] if len(table) else table
        for row in rows.to_dict("records"):
            stages = found.setdefault(str(row["task"]), {}).setdefault(int(row["seed"]), {})
            stages[stage] = _nested(row)
    return found


def _nested(row: dict[str, Any]) -> dict[str, Any]:
    """Dictionaries in dictionaries, of paths with dots; a number that is not defined is None."""
    found: dict[str, Any] = {}
    for path, value in row.items():
        *within, name = path.split(".")
        inner = found
        for part in within:
            inner = inner.setdefault(part, {})
        inner[name] = None if pd.isna(value) else value
    return found
