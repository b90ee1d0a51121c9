"""Does a number that is there before anything is shifted foretell on which tasks steering works?"""

from __future__ import annotations

from typing import Any

import pandas as pd

from memgen.stats.intervals import number
from memgen.stats.ranks import dealt_anew
from memgen.terms import DIRECTIONS

PREDICTORS = ("cosine", "separation")
MOST_ORDERS = 5040  # of the tasks, beyond which random ones are drawn


def foretold(table: pd.DataFrame, seed: int) -> dict[str, dict[str, dict[str, Any]]]:
    """By direction and predictor: Spearman over the tasks' means, and how often a deal of the tasks gives
    as much. Empty without a run.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for direction in DIRECTIONS if len(table) else ():
        rows = table[table.direction == direction]
        for name in PREDICTORS:
            known = rows.dropna(subset=[name, "success"])
            columns = (known[name].to_numpy(float), known.success.to_numpy(float))
            one = dealt_anew(*columns, known.task.to_numpy(str), MOST_ORDERS, seed)
            told = {"value": number(one["value"]), "p": number(one["p"]), "n": len(known)}
            found.setdefault(direction, {})[name] = told | {"n_tasks": int(known.task.nunique())}
    return found
