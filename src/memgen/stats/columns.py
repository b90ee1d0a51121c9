"""What else could explain that a behaviour is foretold: the words, the answer itself, chance, the
key.

Five ways to be fooled, each measured on one model. Labels are 1 = generalization, 0 = memorization.
Whatever is fitted or chosen uses train keys; whatever is reported comes from test keys, but for the
comparison of two splits, which stays among train keys. Intervals are a bootstrap over keys. A
number that does not exist (no such pair, one behaviour only) is nan in the tables and None in the
result.
"""

from __future__ import annotations

import pandas as pd

from memgen.stats.intervals import Bootstrap, number


def columns(**found: Bootstrap) -> dict[str, float]:
    """Each statistic as three columns: its name, and with _low and _high."""
    return {
        f"{name}{end}": value
        for name, one in found.items()
        for end, value in (("", one.estimate), ("_low", one.low), ("_high", one.high))
    }


def numbers(values) -> list[float | None]:
    return [number(value) for value in values]


def interval_pairs(table: pd.DataFrame, name: str) -> list[list[float | None]]:
    """The intervals of a column, one a row."""
    return [numbers(pair) for pair in zip(table[f"{name}_low"], table[f"{name}_high"])]
