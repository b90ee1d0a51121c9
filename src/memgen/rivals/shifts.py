"""The vectors that were chosen, kept so that others can add them without fitting them again."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from memgen.rivals.board import Entry
from memgen.rivals.interventions import Shift


def kept_shifts(entries: Iterable[Entry]) -> dict[str, np.ndarray]:
    """By `<method>.<direction>.<choice>` the shift `[L, d]`, float32, already signed.

    Of every chosen candidate that adds a vector; its positions stand in the row's `setting`.
    """
    return {
        f"{entry.method.name}.{entry.direction}.{choice}": done.delta.astype(np.float32)
        for entry in entries
        for choice, candidate in entry.chosen.items()
        if isinstance(done := candidate.intervention, Shift)
    }
