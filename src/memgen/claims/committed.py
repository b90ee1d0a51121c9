"""The claims of labs that a study runs for its first seed alone, judged on committed runs of all seeds.

A claim needs several seeds. In a study such a claim is `open`; here the same rule reads the tables that
`make rivals` left in `data/reference/rivals`. The verdict is made anew from the numbers each time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from memgen.claims.catalogue import CLAIMS
from memgen.claims.evidence import Evidence
from memgen.claims.ledger import judge
from memgen.stages import LABS

TRACK = "scratch"


def judged_runs(tables: Mapping[str, pd.DataFrame]) -> list[dict]:
    """The claims whose page is one of these labs, if a study runs it for its first seed alone.

    `tables`: by lab a row per `track`, `task` and `seed`, and a column per number, named by its path in
    `result.json` (`m2g.methods.held.n`); those of track scratch count.
    """
    evidence = Evidence(_results(tables), *[pd.DataFrame()] * 4, later={}, track=TRACK)
    named = [name for name in tables if LABS[name].seeds == "first"]
    return [judge(claim, evidence) for claim in CLAIMS if claim.page in named]


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
