"""One rate of steering with all that is said of it: n, interval, *other*, draws, size of the shift."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from memgen.stats.draws import crossed_interval, resampled
from memgen.stats.intervals import wilson
from memgen.steering.cells import cumulative_norm
from memgen.steering.steering import summary


@dataclass(frozen=True)
class Bar:
    """Success and *other* of one kind of shift; None where it does not exist.

    `interval`: Wilson's, with several draws a bootstrap over draws and keys; `draw_range`: the
    lowest and the highest success of a draw. `norm`, `cumulative_norm`: of the shift, mean over the
    draws; `neurons`: that it moves; `missing`: how many fewer than the one under test.
    """

    name: str
    success: float | None = None
    interval: tuple[float, float] | None = None
    other: float | None = None
    n: int = 0
    draws: int = 1
    draw_range: tuple[float, float] | None = None
    norm: float | None = None
    cumulative_norm: float | None = None
    neurons: float | None = None
    missing: float = 0.0

    @classmethod
    def of(
        cls, name: str, codes: np.ndarray, direction: str, shift: np.ndarray | None = None
    ) -> Bar:
        """Of one draw: codes `[prompts]`; `shift` `[L, d]`, if there is one."""
        return cls(name, **summary(codes, direction), **({} if shift is None else size(shift)))

    def row(self, **about) -> dict:
        """As a row of a table, NaN where nothing is known. `about`: further columns."""
        found = asdict(self) | about
        for name, low, high in (("interval", "low", "high"), ("draw_range", "lowest", "highest")):
            found[low], found[high] = found.pop(name) or (None, None)
        return {name: np.nan if value is None else value for name, value in found.items()}

    def numbers(self) -> dict:
        """For `result.json`."""
        found = asdict(self)
        del found["name"]
        return found


def size(shift: np.ndarray) -> dict:
    """Norm, cumulative norm and number of neurons of a shift `[L, d]`."""
    return {
        "norm": float(np.linalg.norm(shift)),
        "cumulative_norm": cumulative_norm(shift),
        "neurons": int(np.count_nonzero(shift)),
    }


def over_draws(
    name: str, rows: pd.DataFrame, stack: list[np.ndarray], reference: np.ndarray
) -> Bar:
    """Of several draws, each a shift `[L, d]`; `rows`: their answers, as `outcome_rows` has them.

    A rate is that of all answers, draws weighing as their prompts do. The interval of a single draw
    is Wilson's.
    """
    several = len(stack) > 1
    success, n = float(rows.success.mean()), len(rows)
    by_draw, sizes = rows.groupby("draw").success.mean(), pd.DataFrame([size(one) for one in stack])
    neurons = float(sizes.neurons.mean())
    return Bar(
        name,
        success=success,
        interval=(
            interval_over_draws(rows, np.random.default_rng(0))
            if several
            else wilson(int(rows.success.sum()), n)
        ),
        other=float(rows.other.mean()),
        n=n,
        draws=len(stack),
        draw_range=(float(by_draw.min()), float(by_draw.max())) if several else None,
        norm=float(sizes.norm.mean()),
        cumulative_norm=float(sizes.cumulative_norm.mean()),
        neurons=neurons,
        missing=max(0.0, float(np.count_nonzero(reference)) - neurons),
    )


def interval_over_draws(rows: pd.DataFrame, rng: np.random.Generator) -> tuple[float, float]:
    """`crossed_interval` of the success of `rows`: draw, key, success."""
    counts = rows.groupby(["draw", "key"]).success.agg(["sum", "size"]).unstack(fill_value=0)
    wins, n = (counts[name].to_numpy(dtype=float) for name in ("sum", "size"))  # [draws, keys]
    return crossed_interval(wins, n, *(resampled(k, rng) for k in n.shape))
