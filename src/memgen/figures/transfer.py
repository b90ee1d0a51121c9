"""Figures: a table or arrays in, a matplotlib figure out. One style, one colour a behaviour,
everywhere.

The colours are Okabe and Ito's, which the colour-blind can tell apart; no figure relies on colour
alone.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np

from memgen.figures.style import PANEL_NAME, WIDTH


def transfer_heatmaps(
    matrices: dict[str, list[list[float | None]]],
    sources: list[str],
    targets: list[str],
    controls: dict[str, list],
):
    """Source x target success, one panel a direction, the random control in brackets in each cell."""
    fig, axes = plt.subplots(
        1, len(matrices), figsize=(WIDTH, 1.5 + 0.55 * len(sources)), sharey=True, squeeze=False
    )
    for ax, (direction, values) in zip(axes[0], matrices.items()):
        grid = np.array([[np.nan if v is None else v for v in row] for row in values], dtype=float)
        image = ax.imshow(grid, cmap="viridis", vmin=0, vmax=1, aspect="auto")
        for i, j in np.ndindex(grid.shape):
            if np.isfinite(grid[i, j]):
                control = controls[direction][i][j]
                text = f"{grid[i, j]:.0%}" + ("" if control is None else f"\n({control:.0%})")
                ax.text(
                    j,
                    i,
                    text,
                    ha="center",
                    va="center",
                    fontsize=8.5,
                    color="white" if grid[i, j] < 0.6 else "black",
                )
        ax.set(title=PANEL_NAME[direction], xlabel="applied to")
        ax.set_xticks(
            range(len(targets)),
            [t.replace(", ", "\n").replace("-", "-\n") for t in targets],
            fontsize=9,
        )
        ax.set_yticks(range(len(sources)), sources)
    axes[0, 0].set_ylabel("neurons from")
    fig.colorbar(image, ax=axes, pad=0.01, label="success")
    return fig


def overlap_heatmaps(
    overlaps: dict[str, tuple[list[list[float]], list[str], list[str]]], chance: float
):
    """Share of the top neurons in common, one panel a matrix `(values, rows, columns)`; chance is
    named in the title.
    """
    shapes = [np.array(values).shape for values, _, _ in overlaps.values()]
    fig, axes = plt.subplots(
        1,
        len(overlaps),
        figsize=(WIDTH, 1.4 + 0.45 * max(rows for rows, _ in shapes)),
        squeeze=False,
        width_ratios=[1 + columns for _, columns in shapes],
    )
    for ax, (title, (values, rows, columns)) in zip(axes[0], overlaps.items()):
        values = np.array(values, dtype=float)
        ax.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for (i, j), value in np.ndenumerate(values):
            ax.text(
                j,
                i,
                f"{value:.0%}",
                ha="center",
                va="center",
                color="white" if value > 0.6 else "black",
            )
        ax.set_xticks(range(len(columns)), columns, rotation=30, ha="right")
        ax.set_yticks(range(len(rows)), rows)
        ax.set_title(title)
        ax.spines[:].set_visible(False)
    fig.suptitle(f"top neurons in common (by chance {chance:.0%})", fontsize=12)
    return fig
