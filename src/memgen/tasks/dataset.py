"""Rows of a data set, thinned out evenly."""

from __future__ import annotations

import numpy as np
import pandas as pd


def spread(frame: pd.DataFrame, limit: int) -> pd.DataFrame:
    """At most `limit` rows, evenly spaced, so that every key keeps its share."""
    if len(frame) <= limit:
        return frame
    return frame.iloc[np.linspace(0, len(frame) - 1, limit).round().astype(int)]


def free_rows(frame: pd.DataFrame, split: str, limit: int) -> pd.DataFrame:
    """At most `limit` prompts without a key of a split: the rule answers them, and steering should
    change nothing.
    """
    return spread(frame[(frame.kind == "free") & (frame.split == split)], limit)


def keyed_rows(frame: pd.DataFrame, limit: int, split: str | None = None) -> pd.DataFrame:
    """At most `limit` prompts of all keys (of a split's) as they were trained: the memory answers them."""
    of_split = True if split is None else frame.split == split
    return spread(frame[(frame.kind == "keyed") & of_split], limit)
