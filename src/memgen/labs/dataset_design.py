"""Lab 01: the data set. What it promises, checked on the file that training will read."""

from __future__ import annotations

import pandas as pd

from memgen.terms import KINDS, SPLITS


def composition(frame: pd.DataFrame) -> pd.DataFrame:
    """How many instances there are, by kind (rows) and split (columns)."""
    counts = frame.groupby(["kind", "split"]).size().unstack(fill_value=0)[list(SPLITS)]
    return counts.loc[[kind for kind in KINDS if kind in counts.index]]


def checks(frame: pd.DataFrame) -> dict[str, bool]:
    """What a data set must hold, by sentence."""
    by_key = frame.kind.isin(["keyed", "contrast"])
    trained = frame[by_key | ((frame.kind == "free") & (frame.split == "train"))]
    conflict, keyed = frame[frame.kind == "conflict"], frame[frame.key != ""]
    return {
        "no conflict prompt is trained on": not set(conflict.prompt) & set(trained.prompt),
        "no prompt occurs twice": frame.prompt.is_unique,
        "every key lies in one split": bool((keyed.groupby("key").split.nunique() == 1).all()),
        "memory and rule differ on every conflict prompt": bool(
            (conflict.memory_answer != conflict.rule_answer).all()
        ),
    }
