"""Lab 03: how often rephrasing alone flips the behaviour."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from memgen.figures.style import DIRECTION_COLOR, DIRECTION_NAME, SMALL, WIDTH, Drawing, share_axis
from memgen.terms import CHANGES, DIRECTIONS

TITLES = {
    "order": "the order changes: the same question",
    "content": "the content changes: another question",
}


def flip_bars(flips: list[dict]) -> Drawing:
    """Share of the rephrasings that flip, by kind of change, split and direction, with n.

    `flips` of the lab's result: of each rate both intervals.
    """
    table = pd.DataFrame(flips)
    for end in ("low", "high"):  # a single key has no interval over keys
        table[f"key_{end}"] = pd.to_numeric(table[f"key_{end}"]).fillna(table.rate)
    fig, axes = plt.subplots(len(CHANGES), 1, figsize=(WIDTH, 5.2), sharex=True, sharey=True)
    splits = list(dict.fromkeys(table.split))
    top = table[["high", "key_high"]].max(axis=1)
    for ax, change in zip(axes, CHANGES):
        for offset, direction in zip((-0.2, 0.2), DIRECTIONS):
            of = (table.change == change) & (table.direction == direction)
            rows = table[of].assign(top=top).set_index("split").loc[splits]
            x = np.arange(len(splits)) + offset
            error = np.clip([rows.rate - rows.low, rows.high - rows.rate], 0, None)
            color, label = DIRECTION_COLOR[direction], DIRECTION_NAME[direction]
            ax.bar(x, rows.rate, 0.38, color=color, label=label)
            ax.vlines(x, rows.key_low, rows.key_high, color="black", lw=5, alpha=0.25)
            ax.errorbar(x, rows.rate, error, fmt="none", color="black", lw=1)
            for xi, high, n in zip(x, rows.top, rows.n):
                ax.text(xi, high + 0.02, f"n={n}", ha="center", fontsize=SMALL)
        ax.set(title=TITLES[change], ylabel="rephrasings that flip")
        ax.set_xticks(range(len(splits)), splits)
        share_axis(ax)
        ax.set_ylim(0, min(1.15, top.max() + 0.2))
    axes[-1].set_xlabel("split (by key)")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    listed = (
        f"{change}: "
        + "; ".join(
            f"{row.split} {row.direction} {row.rate:.2f}"
            for row in table[table.change == change].itertuples()
        )
        for change in CHANGES
    )
    return Drawing(
        fig,
        alt=(
            "Bars: share of rephrasings that flip, by kind of change, split and direction. "
            + ". ".join(listed)
        ),
        caption=(
            "Rephrasings that turn the behaviour into the opposite one: above, the same question in"
            " another order; below, another question about the same key. Thin lines: 95 % Wilson"
            " intervals over rephrasings; wide bands: 95 % bootstrap intervals over keys."
        ),
        name="flips",
    )
