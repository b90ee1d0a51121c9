"""A multiverse of specifications: which of them are tried, what they say together, and what matters.

A *specification* is one way in which a claim could have been measured: a level of every factor (site,
ranking, split, metric, ...). Its effect has an interval over keys. Sources: Simonsohn, Simmons & Nelson
(2020), Specification curve analysis; Steegen et al. (2016), Increasing transparency through a multiverse
analysis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from memgen.stats.intervals import number, percentile_interval

ROWS = 16
#: columns of an orthogonal array of 16 rows, as sums (mod 2) of the bits of the row's number: two
#: factors of four levels, and three of two
FOUR, TWO = ((0, 1), (2, 3)), ((0, 2), (1, 3), (0, 3))


def sixteen(
    four: Mapping[str, Sequence[str]], two: Mapping[str, Sequence[str]]
) -> list[dict[str, str]]:
    """16 of the combinations of two factors of up to four levels and up to three of two levels.

    Each level of a factor meets the levels of every other equally often (an orthogonal array), so main
    effects do not blur each other; the first row has the first level of all. A factor with fewer levels
    than its column has its first level more often. Errors: `ValueError` for more factors or levels.
    """
    if len(four) > len(FOUR) or len(two) > len(TWO):
        raise ValueError(f"sixteen rows have room for {len(FOUR)} and {len(TWO)} factors")
    rows = []
    for row in range(ROWS):
        bits = [(row >> place) & 1 for place in range(4)]
        found = {}
        for (name, levels), (high, low) in zip(four.items(), FOUR):
            found[name] = _level(name, levels, 2 * bits[high] + bits[low], 4)
        for (name, levels), places in zip(two.items(), TWO):
            found[name] = _level(name, levels, sum(bits[place] for place in places) % 2, 2)
        rows.append(found)
    return rows


def _level(name: str, levels: Sequence[str], at: int, most: int) -> str:
    if not 0 < len(levels) <= most:
        raise ValueError(f"factor {name} has {len(levels)} levels, and its column has {most}")
    return levels[at] if at < len(levels) else levels[0]


def drawn_keys(n_keys: int, n_resamples: int, seed: int) -> np.ndarray:
    """How often each key is drawn, `[1 + B, n_keys]`; in the first row every key once."""
    rng = np.random.default_rng(seed)
    if not n_keys:
        return np.ones((1 + n_resamples, 0))
    drawn = rng.multinomial(n_keys, np.full(n_keys, 1 / n_keys), size=n_resamples)
    return np.concatenate([np.ones((1, n_keys)), drawn.astype(float)])


@dataclass(frozen=True)
class Counted:
    """Successes by specification and key `[S, K]`, of so many prompts `[S, K]` or `[K]`."""

    wins: np.ndarray
    n: np.ndarray

    def rates(self, weights: np.ndarray) -> np.ndarray:
        """Share of successes `[B, S]` under weights of the keys `[B, K]`; nan without a prompt."""
        total = weights @ np.broadcast_to(self.n, self.wins.shape).T
        wins = weights @ self.wins.T
        rates = np.full(wins.shape, np.nan)
        np.divide(wins, total, out=rates, where=total > 0)
        return rates


def ends(draws: np.ndarray, n_keys: int) -> pd.DataFrame:
    """`effect`, `low`, `high` of each column of draws `[1 + B, S]`; the first row is the estimate.

    Resamples in which it is undefined are left out. The interval is nan where the estimate is, and of
    fewer than two keys, which show no spread.
    """
    rows = []
    for column in draws.T:
        known = column[1:][~np.isnan(column[1:])]
        told = n_keys > 1 and not np.isnan(column[0])
        low, high = percentile_interval(known) if told else (np.nan, np.nan)
        rows.append((column[0], low, high))
    return pd.DataFrame(rows, columns=["effect", "low", "high"])


def explained(table: pd.DataFrame, factors: Sequence[str]) -> dict[str, float | None]:
    """Share of the variance of `effect` between the levels of each factor (eta squared), and the rest.

    Where the levels of all factors meet equally often the shares of the factors add up, and `together`
    is what no single choice explains: choices that matter only in combination. None: all effects alike.
    """
    effects = table.effect.to_numpy()
    whole = float(((effects - effects.mean()) ** 2).sum()) if len(effects) else 0.0
    if whole < 1e-12:
        return dict.fromkeys((*factors, "together"))
    shares: dict[str, float | None] = {}
    for name in factors:
        groups = table.groupby(name).effect
        between = float((groups.size() * (groups.mean() - effects.mean()) ** 2).sum())
        shares[name] = between / whole
    rest = 1 - sum(share for share in shares.values() if share is not None)
    return shares | {"together": max(0.0, rest)}


def summary(table: pd.DataFrame, factors: Sequence[str]) -> dict[str, Any]:
    """What the specifications say together. `table`: a row each, `effect` (nan: undefined), `low`, `high`.

    The first row is the specification of the book. `positive`: share whose effect is above 0; `share`:
    whose interval is, too; `reversed`: whose interval lies below 0. `largest`: the factor that explains
    most. By factor and level the median effect and the share.
    """
    known = table[table.effect.notna()]
    above, below = known.low > 0, known.high < 0
    parts = explained(known, factors)
    ordered = [name for name in factors if parts[name] is not None]
    first = table.iloc[0] if len(table) else None
    return {
        "n_specifications": len(table),
        "n_defined": len(known),
        "positive": _mean(known.effect > 0),
        "share": _mean(above),
        "reversed": _mean(below),
        "median": number(known.effect.median()),
        "worst": number(known.effect.min()),
        "best": number(known.effect.max()),
        "book": None if first is None else number(first.effect),
        "book_interval": [None, None] if first is None else [number(first.low), number(first.high)],
        "explained": parts,
        "largest": max(ordered, key=lambda name: parts[name] or 0.0, default=None),
        "levels": {name: _levels(known.assign(above=above), name) for name in factors},
    }


def _levels(known: pd.DataFrame, factor: str) -> dict[str, dict[str, Any]]:
    """By level of a factor, in order of appearance: how many, median effect, share beyond chance."""
    return {
        str(level): {
            "n": len(rows),
            "median": number(rows.effect.median()),
            "share": _mean(rows.above),
        }
        for level, rows in known.groupby(factor, sort=False)
    }


def _mean(values: pd.Series) -> float | None:
    return number(values.mean()) if len(values) else None
