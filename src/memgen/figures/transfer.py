"""Figures of lab 07: whose neurons steer whom, and which neurons two models have in common."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np

from memgen.figures.style import PANEL_NAME, WIDTH, Drawing
from memgen.stats.reported import shown
from memgen.terms import DIRECTIONS


def _percent(part: dict, source: int, target: int) -> str:
    """Success in both directions, in words."""
    return " / ".join(shown(part[d][source][target], ".0%", "none") for d in DIRECTIONS)


def _heatmaps(part: dict):
    both = {direction: part[direction] for direction in DIRECTIONS}
    return transfer_heatmaps(both, part["sources"], part["targets"], part["control"])


def retrains(part: dict, track: str) -> Drawing:
    """Between models of one task; `part`: the stage's `retrain` result."""
    cells = "; ".join(
        f"{s} to {t}: {_percent(part, i, j)}"
        for i, s in enumerate(part["sources"])
        for j, t in enumerate(part["targets"])
    )
    shared = "Models share a base if they have the same seed"
    if track != "scratch":
        shared = "All share one base"
    return Drawing(
        _heatmaps(part),
        alt="Matrices of steering success, neurons from (rows) applied to (columns), both directions,"
        f" random control in brackets: {cells}",
        caption=f"Between models of this task. {shared}; in brackets: random neurons of the same norm.",
        name="retrains",
    )


def tasks(part: dict) -> Drawing:
    """From every task to this one; `part`: the stage's `task` result."""
    cells = "; ".join(f"{s}: {_percent(part, i, 0)}" for i, s in enumerate(part["sources"]))
    sharing = [s for s, shared in zip(part["sources"], part["shares_base"]) if shared]
    return Drawing(
        _heatmaps(part),
        alt="Steering success on this task with the neurons of each task, both directions, random"
        f" control in brackets: {cells}",
        caption="From each task of the study to this one, same seed, prompts pooled over seeds. Tasks"
        f" that share a base: {', '.join(sharing)}.",
        name="tasks",
    )


def _share(part: dict, i: int, j: int) -> str:
    return f"{part['overlap'][i][j]:.0%} ({part['overlap_by_layer'][i][j]:.0%})"


def overlap(between: dict, task: dict) -> Drawing:
    """Top neurons in common; `between` and `task`: the stage's `retrain` and `task` results."""
    parts = {"between models": between, "with other tasks": task}
    chance = between["overlap_by_chance"]
    models = "; ".join(
        f"{s} and {t}: {_share(between, i, j)}"
        for i, s in enumerate(between["sources"])
        for j, t in enumerate(between["targets"])
        if i < j
    )
    others = "; ".join(f"{s}: {_share(task, i, 0)}" for i, s in enumerate(task["sources"]))
    return Drawing(
        overlap_heatmaps(
            {
                name: (x["overlap"], x["overlap_by_layer"], x["sources"], x["targets"])
                for name, x in parts.items()
            },
            chance,
        ),
        alt=f"Share of the top {chance:.0%} of the neurons by |rho| that two models have in common, in"
        f" brackets by chance with their numbers in each layer: {models}; with other tasks: {others}",
        caption="Are the top neurons the same ones? Share of the top twentieth by |rho| that two models"
        " have in common; in brackets: by chance alone, with as many in each layer.",
        name="overlap",
    )


def transfer_heatmaps(
    matrices: dict[str, list[list[float | None]]],
    sources: list[str],
    targets: list[str],
    controls: dict[str, list],
):
    """Source x target success, one panel per direction, the random control in brackets in each cell."""
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
    overlaps: dict[str, tuple[list[list[float]], list[list[float]], list[str], list[str]]],
    chance: float,
):
    """Top neurons in common, a panel per `(values, by layer alone, rows, columns)`; `chance` in the title."""
    shapes = [np.array(values).shape for values, *_ in overlaps.values()]
    fig, axes = plt.subplots(
        1,
        len(overlaps),
        figsize=(WIDTH, 1.4 + 0.55 * max(rows for rows, _ in shapes)),
        squeeze=False,
        width_ratios=[1 + columns for _, columns in shapes],
    )
    for ax, (title, (values, by_layer, rows, columns)) in zip(axes[0], overlaps.items()):
        values = np.array(values, dtype=float)
        ax.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for (i, j), value in np.ndenumerate(values):
            ax.text(
                j,
                i,
                f"{value:.0%}\n({by_layer[i][j]:.0%})",
                ha="center",
                va="center",
                fontsize=8.5,
                color="white" if value > 0.6 else "black",
            )
        ax.set_xticks(range(len(columns)), columns, rotation=30, ha="right")
        ax.set_yticks(range(len(rows)), rows)
        ax.set_title(title)
        ax.spines[:].set_visible(False)
    fig.suptitle(f"top neurons in common (by chance {chance:.0%})", fontsize=12)
    return fig
