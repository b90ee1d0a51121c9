"""What portable kernels cost, as committed with the code: a ratio of processor seconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from memgen.stages import BASE, TRAINING
from memgen.store.files import read_json
from press.numbers import processors

#: the stages that train
TRAINED = (BASE, TRAINING)


@dataclass(frozen=True)
class Price:
    """Portable over native processor seconds: of all labs, of those that train, of the others.

    `n`: labs timed each way; `command` and `machine`: how and where.
    """

    ratio: float
    training: float
    others: float
    n: int
    command: str
    machine: str


def numerics_price(root: Path) -> Price | None:
    """The measurement in `data/reference/numerics`, or None before there is one."""
    path = root / "data" / "reference" / "numerics" / "results.csv"
    if not path.is_file():
        return None
    table, about = pd.read_csv(path), read_json(path.with_name("about.json"))
    trains = table.lab.isin(TRAINED)
    machine = processors(about["machine"])
    return Price(
        _ratio(table),
        _ratio(table[trains]),
        _ratio(table[~trains]),
        len(table) // table.numerics.nunique(),
        about["command"],
        machine,
    )


def _ratio(table: pd.DataFrame) -> float:
    seconds = table.groupby("numerics").cpu_seconds.sum()
    return float(seconds["portable"] / seconds["native"])
