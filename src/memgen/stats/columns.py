"""Statistics with their intervals as columns of a table, and columns as numbers of a `result.json`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import SupportsFloat

import pandas as pd

from memgen.stats.intervals import Bootstrap, number


def columns(**found: Bootstrap) -> dict[str, float]:
    """Each statistic as three columns: its name, and with _low and _high."""
    return {
        f"{name}{end}": value
        for name, one in found.items()
        for end, value in (("", one.estimate), ("_low", one.low), ("_high", one.high))
    }


def numbers(values: Iterable[SupportsFloat | None]) -> list[float | None]:
    """What a `result.json` can hold: None where a number is undefined."""
    return [number(value) for value in values]


def interval_pairs(table: pd.DataFrame, name: str) -> list[list[float | None]]:
    """The intervals of a column, one per row."""
    return [numbers(pair) for pair in zip(table[f"{name}_low"], table[f"{name}_high"])]
