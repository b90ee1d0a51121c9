"""Shares and other statistics with interval and n, as a `result.json` reports them; None where undefined."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from memgen.stats.intervals import Bootstrap, Statistic, bootstrap_by_key, number, wilson


def rate(hits: np.ndarray, name: str = "share") -> dict[str, Any]:
    """Share of true entries, Wilson's interval and n; None without any."""
    hits = np.asarray(hits).ravel()
    n = len(hits)
    return known_rate(float(hits.mean()) if n else None, n, name)


def known_rate(value: float | None, n: int, name: str = "share") -> dict[str, Any]:
    """The same of a rate that was measured on n cases; None where there was none, or no rate."""
    if value is None or n == 0:
        return {name: None, "interval": None, "n": 0}
    return {name: float(value), "interval": list(wilson(round(value * n), n)), "n": n}


def by_key(
    statistic: Statistic, keys: np.ndarray, *arrays: np.ndarray, seed: int
) -> dict[str, Any]:
    """`value`, `interval` over keys, `n`, `n_keys` of a weighted statistic; None: undefined."""
    if not len(keys):
        return {"value": None, "interval": None, "n": 0, "n_keys": 0}
    found = bootstrap_by_key(statistic, keys, *arrays, seed=seed, weighted=True)
    interval = ends(found)
    return {
        "value": number(found.estimate),
        "interval": None if None in interval else interval,
        "n": len(keys),
        "n_keys": found.n_keys,
    }


def ends(found: Bootstrap) -> list[float | None]:
    """An interval as a `result.json` holds it."""
    return [number(found.low), number(found.high)]


def shown(value: float | None, form: str = ".2f", none: str = "undefined") -> str:
    """A number in words."""
    return none if value is None else format(value, form)


def between(pair: Iterable[float | None] | None, form: str = ".2f", none: str = "undefined") -> str:
    """An interval in words: `[0.10, 0.30]`; of None both ends are undefined."""
    return "[" + ", ".join(shown(end, form, none) for end in pair or (None, None)) + "]"
