"""Figures of lab 07: whose neurons steer whom, and which neurons two models have in common."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from memgen.figures.style import (
    DIRECTION_NAME,
    SHARE_MAP,
    SMALL,
    WIDTH,
    Drawing,
    on_share,
    say_ends,
)
from memgen.stats.reported import shown
from memgen.terms import DIRECTIONS


def _percent(part: dict, source: int, target: int) -> str:
    """Success in both directions, in words."""
    return " / ".join(shown(part[d][source][target], ".0%", "none") for d in DIRECTIONS)


def _heatmaps(part: dict):
    both = {direction: part[direction] for direction in DIRECTIONS}
    return transfer_heatmaps(both, part["sources"], part["targets"], part["control"])


def retrains(part: dict, track: str, cells: pd.DataFrame) -> Drawing:
    """Between models of one task; `part`: the stage's `retrain` result, `cells`: its table."""
    said = "; ".join(
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
        f" random control in brackets: {said}",
        caption=f"Between models of this task. {shared}; in brackets: random neurons of the same norm."
        + ahead_of_own(cells[cells.kind == "retrain"]),
        name="retrains",
    )


def ahead_of_own(cells: pd.DataFrame) -> str:
    """Sentences on targets that the neurons of another model steer better than their own do; or ''.

    `cells`: rows of source, target, direction, success, interval (Wilson's). Intervals that overlap
    show no difference.
    """
    own = cells[cells.source == cells.target].set_index(["target", "direction"])
    rows = [row for row in cells.itertuples() if (row.target, row.direction) in own.index]
    pairs = [(row, own.loc[row.target, row.direction]) for row in rows]
    ahead = [(row, mine) for row, mine in pairs if row.success > mine.success]
    if not ahead:
        return ""
    apart = [(row, mine) for row, mine in ahead if row.interval[0] > mine.interval[1]]
    widest = max(apart or ahead, key=lambda pair: pair[0].success - pair[1].success)
    text = f" In {len(ahead)} of {len(pairs) - len(own)} cells off the diagonal another model's neurons"
    text += " turn more answers than the target's own;"
    if not apart:
        text += " all their 95 % intervals overlap, so no difference is shown. The largest: "
    else:
        text += f" in {len(apart)} of them the 95 % intervals over prompts lie apart. There the largest: "
    text += _beside_own(*widest)
    return text + (
        " Another model's neurons come with its alpha and top-N, which were never held to this target's"
        " limit on lost prompts."
    )


def _beside_own(row, mine: pd.Series) -> str:
    other, own = (
        f"{x.success:.0%} ({x.interval[0]:.0%} to {x.interval[1]:.0%})" for x in (row, mine)
    )
    base = "of the same base" if row.shared_base else "of another base"
    return f"{row.target}, {row.direction}, with the neurons of {row.source}, {base}: {other}, own {own}."


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
    height = len(matrices) * (0.4 + 0.5 * len(sources)) + 1.5
    fig, axes = plt.subplots(len(matrices), 1, figsize=(WIDTH, height), sharex=True, squeeze=False)
    for ax, (direction, values) in zip(axes[:, 0], matrices.items()):
        grid = np.array([[np.nan if v is None else v for v in row] for row in values], dtype=float)
        image = ax.imshow(grid, cmap=SHARE_MAP, vmin=0, vmax=1, aspect="auto")
        for i, j in np.ndindex(grid.shape):
            if np.isfinite(grid[i, j]):
                control = controls[direction][i][j]
                text = f"{grid[i, j]:.0%}" + ("" if control is None else f"\n({control:.0%})")
                _number(ax, i, j, text, grid[i, j])
        ax.set(title=DIRECTION_NAME[direction], ylabel="neurons from")
        ax.set_yticks(range(len(sources)), [_broken(source) for source in sources])
    axes[-1, 0].set_xticks(range(len(targets)), [_broken(target) for target in targets])
    axes[-1, 0].set_xlabel("applied to")
    words = ("no answer turns", "all turn")
    say_ends(fig, image, axes, *words, ticks=[0, 1], format="{x:.0%}")
    return fig


def _number(ax, row: int, column: int, text: str, value: float) -> None:
    looks = {"ha": "center", "va": "center", "fontsize": SMALL, "linespacing": 0.95}
    ax.text(column, row, text, color=on_share(value), **looks)


def _broken(name: str) -> str:
    """The name of a model or task, in two lines where it has two parts."""
    return name.replace(", ", "\n").replace("-", "-\n")


def overlap_heatmaps(
    overlaps: dict[str, tuple[list[list[float]], list[list[float]], list[str], list[str]]],
    chance: float,
):
    """Top neurons in common, a panel per `(values, by layer alone, rows, columns)`; `chance` in the title."""
    shapes = [np.array(values).shape for values, *_ in overlaps.values()]
    fig, axes = plt.subplots(
        len(overlaps),
        1,
        figsize=(WIDTH, 1.6 + sum(0.9 + 0.5 * rows for rows, _ in shapes)),
        squeeze=False,
        height_ratios=[rows for rows, _ in shapes],
    )
    for ax, (title, (values, by_layer, rows, columns)) in zip(axes[:, 0], overlaps.items()):
        values = np.array(values, dtype=float)
        image = ax.imshow(values, cmap=SHARE_MAP, vmin=0, vmax=1, aspect="auto")
        for (i, j), value in np.ndenumerate(values):
            _number(ax, i, j, f"{value:.0%}\n({by_layer[i][j]:.0%})", value)
        ax.set_xticks(range(len(columns)), [_broken(column) for column in columns])
        ax.set_yticks(range(len(rows)), [_broken(row) for row in rows])
        ax.set_title(title)
        ax.spines[:].set_visible(False)
    words = ("no top neuron in common", f"all (by chance {chance:.0%})")
    say_ends(fig, image, axes, *words, ticks=[0, 1], format="{x:.0%}")
    return fig
