"""Lab 01: what the data set consists of."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from memgen.figures.style import SMALL, WIDTH, Drawing, share_axis


def composition(counts: pd.DataFrame) -> Drawing:
    """Instances by kind (rows) and split (columns), as stacked bars with the counts written out."""
    fig, ax = plt.subplots(figsize=(WIDTH, 0.6 + 0.55 * len(counts)))
    left = np.zeros(len(counts))
    shades = ["#00664B", "#5FC3A4", "#C9E9DF"]  # of one green, dark to pale
    shares = counts.div(counts.sum(axis=1), axis=0)
    for split, shade in zip(counts.columns, shades):
        bars = ax.barh(counts.index, shares[split], left=left, color=shade, label=split)
        ax.bar_label(
            bars,
            [f"{n:,}" if s > 0.07 else "" for n, s in zip(counts[split], shares[split])],
            label_type="center",
            color="white" if shade == shades[0] else "black",
            fontsize=SMALL,
        )
        left += shares[split].to_numpy()
    ax.invert_yaxis()
    ax.set_xlabel("share of the instances of that kind (numbers: instances)")
    share_axis(ax, "x")
    fig.legend(loc="outside upper right", ncols=3)
    listed = (
        f"{k}: " + ", ".join(f"{n} {s}" for s, n in row.items()) for k, row in counts.iterrows()
    )
    return Drawing(
        fig,
        alt="Stacked bars, one per kind of instance: " + "; ".join(listed),
        caption=(
            "What the data set consists of. For free prompts the split is by prompt, for the others"
            " by key."
        ),
        name="composition",
    )
