"""Rows of the evidence as units of an interval: a row per key of a seed."""

from __future__ import annotations

import numpy as np
import pandas as pd

from memgen.claims.evidence import Evidence
from memgen.stats.over_seeds import NOTHING, Effect, of_a_share, over_keys, over_seeds, rate


def of(table: pd.DataFrame, task: str) -> pd.DataFrame:
    return table[table.task == task].reset_index(drop=True)


def wide(rows: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Successes, a row per key of a seed, a column per kind; and prompts by kind, in that order."""
    sums = rows.groupby(["seed", "key", "kind"])[["wins", "n"]].sum().unstack(fill_value=0)
    return sums["wins"], {kind: sums["n", kind].to_numpy() for kind in sums["n"].columns}


def units(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Seeds and keys of a table that is indexed by them."""
    return (
        table.index.get_level_values("seed").to_numpy(),
        table.index.get_level_values("key").to_numpy(),
    )


def gap(evidence: Evidence, rows: pd.DataFrame, one: str, others: tuple[str, ...]) -> Effect:
    """Rate of the kind `one` less the mean rate of the kinds `others` (those that are there)."""
    rows = rows[rows.kind.isin([one, *others])]
    wins, n = wide(rows) if len(rows) else (None, {})
    there = [kind for kind in others if kind in n]
    if one not in n or not there:
        return NOTHING

    def statistic(w: np.ndarray) -> np.ndarray:
        controls = [rate(w, wins[kind].to_numpy(), n[kind]) for kind in there]
        return rate(w, wins[one].to_numpy(), n[one]) - np.mean(controls, axis=0)

    return over_keys(statistic, *units(wins), int(n[one].sum()), shared_keys=evidence.shared_keys)


def level(evidence: Evidence, rows: pd.DataFrame, kinds: tuple[str, ...]) -> Effect:
    """Mean rate of these kinds (those that are there)."""
    rows = rows[rows.kind.isin(kinds)]
    wins, n = wide(rows) if len(rows) else (None, {})
    there = [kind for kind in kinds if kind in n]
    if not there:
        return NOTHING
    found = over_keys(
        lambda w: np.mean([rate(w, wins[kind].to_numpy(), n[kind]) for kind in there], axis=0),
        *units(wins),
        sum(int(n[kind].sum()) for kind in there),
        shared_keys=evidence.shared_keys,
    )
    return of_a_share(found)


def by_seed(values: list[float | None], prompts: list[int], keys: list[int]) -> Effect:
    """A number per seed (None: none), and the prompts and keys behind each; Student's interval.

    A rate of a seed moves in steps of one prompt of the smallest seed.
    """
    if not values:
        return NOTHING
    found = over_seeds(values, sum(prompts), 1 / max(1, min(prompts)))
    return found if found.n_seeds == 0 else found._replace(n_keys=sum(keys))
