"""What others report on knowledge against context: the table beside a pretrained model's numbers."""

from __future__ import annotations

import csv
from pathlib import Path

from press.errors import BookError

FIELD = "field.csv"
FIELD_COLUMNS = ("method", "key", "model", "data", "metric", "towards", "low", "high")
FIELD_COLUMNS += ("without_low", "without_high", "seen")


def field_of(path: Path) -> list[dict[str, str]]:
    """What others report: a row per method, model and data set, its ranges in words."""
    if not path.is_file():
        return []
    with path.open(encoding="utf8", newline="") as file:
        rows = csv.DictReader(file)
        if tuple(rows.fieldnames or ()) != FIELD_COLUMNS:
            wanted = ", ".join(FIELD_COLUMNS)
            raise BookError(f"{path}: its columns are {rows.fieldnames}, not {wanted}")
        found = list(rows)
    words = {"memory": "memory", "text": "the text", "either": "either"}
    return [
        row
        | {
            "towards": words[row["towards"]],
            "value": _range(row["low"], row["high"]),
            "without": _range(row["without_low"], row["without_high"]),
        }
        for row in found
    ]


def _range(low: str, high: str) -> str:
    """`0.2 to 25.9 %`, `88 %`, or `not given`."""
    if not low:
        return "not given"
    return f"{low}\u00a0%" if low == high else f"{low} to {high}\u00a0%"
