"""Lab 03: how often rephrasing alone flips the behaviour."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from memgen.figures.style import DIRECTION_COLOR, DIRECTION_NAME, WIDTH, Drawing, share_axis
from memgen.stats.intervals import wilson
from memgen.terms import DIRECTIONS


def flip_bars(flips: list[dict]) -> Drawing:
    """Share of the rephrasings that flip, by split and direction, with n; `flips` of the lab's result."""
    table = pd.DataFrame(flips)
    table[["low", "high"]] = [wilson(k, n) for k, n in zip(table.flipped, table.n)]
    fig, ax = plt.subplots(figsize=(WIDTH, 3))
    splits = list(dict.fromkeys(table.split))
    for offset, direction in zip((-0.2, 0.2), DIRECTIONS):
        rows = table[table.direction == direction].set_index("split").loc[splits]
        x = np.arange(len(splits)) + offset
        error = np.clip([rows.rate - rows.low, rows.high - rows.rate], 0, None)
        color, label = DIRECTION_COLOR[direction], DIRECTION_NAME[direction]
        ax.bar(x, rows.rate, 0.38, yerr=error, color=color, label=label, error_kw={"lw": 1})
        for xi, top, n in zip(x, rows.high, rows.n):
            ax.text(xi, top + 0.02, f"n={n}", ha="center", fontsize=9)
    ax.set_xticks(range(len(splits)), splits)
    ax.set(ylabel="rephrasings that flip", xlabel="split (by key)")
    share_axis(ax)
    ax.set_ylim(0, min(1.1, table.high.max() + 0.15))
    fig.legend(loc="outside upper center", ncols=2)
    listed = (f"{row.split} {row.direction} {row.rate:.2f}" for row in table.itertuples())
    return Drawing(
        fig,
        alt="Bars: share of rephrasings that flip, by split and direction: " + "; ".join(listed),
        caption=(
            "Rephrasings that turn the behaviour into the opposite one, with 95 % Wilson intervals. This"
            " is the floor that steering has to beat."
        ),
        name="flips",
    )
