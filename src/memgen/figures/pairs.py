"""Figures: a table or arrays in, a matplotlib figure out. One style, one colour a behaviour,
everywhere.

The colours are Okabe and Ito's, which the colour-blind can tell apart; no figure relies on colour
alone.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from memgen.figures.style import DIRECTION_COLOR, DIRECTION_NAME, WIDTH, share_axis


def flip_bars(table: pd.DataFrame):
    """How often rephrasing alone flips the behaviour, by split and direction, with n."""
    fig, ax = plt.subplots(figsize=(WIDTH, 3))
    splits = list(dict.fromkeys(table.split))
    for offset, direction in ((-0.2, "m2g"), (0.2, "g2m")):
        rows = table[table.direction == direction].set_index("split").loc[splits]
        x = np.arange(len(splits)) + offset
        error = np.clip([rows.rate - rows.low, rows.high - rows.rate], 0, None)
        ax.bar(
            x,
            rows.rate,
            0.38,
            yerr=error,
            color=DIRECTION_COLOR[direction],
            label=DIRECTION_NAME[direction],
            error_kw={"lw": 1},
        )
        for xi, top, n in zip(x, rows.high, rows.n):
            ax.text(xi, top + 0.02, f"n={n}", ha="center", fontsize=9)
    ax.set_xticks(range(len(splits)), splits)
    ax.set(ylabel="rephrasings that flip", xlabel="split (by key)")
    share_axis(ax)
    ax.set_ylim(0, min(1.1, table.high.max() + 0.15))
    fig.legend(loc="outside upper center", ncols=2)
    return fig
