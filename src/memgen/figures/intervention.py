"""Figures: a table or arrays in, a matplotlib figure out. One style, one colour a behaviour,
everywhere.

The colours are Okabe and Ito's, which the colour-blind can tell apart; no figure relies on colour
alone.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from memgen.figures.style import (
    COLOR,
    CONTROL_NAME,
    DIRECTION_COLOR,
    DIRECTION_NAME,
    PANEL_NAME,
    WIDTH,
    share_axis,
)


def grid_heatmaps(races: dict[str, pd.DataFrame], chosen: dict[str, tuple[float, float]]):
    """Success of every cell on validation keys, one panel a direction; cells that left the race
    early are hatched, the chosen one boxed.
    """
    fig, axes = plt.subplots(1, len(races), figsize=(WIDTH, 3.6), squeeze=False, sharey=True)
    for ax, (direction, table) in zip(axes[0], races.items()):
        rate = table.successes / table.evaluated.clip(lower=1)
        values = table.assign(rate=rate).pivot(index="top_n", columns="alpha", values="rate")
        early = (
            table.pivot(index="top_n", columns="alpha", values="evaluated") < table.evaluated.max()
        )
        image = ax.imshow(values, aspect="auto", cmap="viridis", vmin=0, vmax=1, origin="lower")
        for i, j in np.argwhere(early.to_numpy()):
            ax.text(j, i, "·", ha="center", va="center", color="white", fontsize=12)
        top_n, alpha = chosen[direction]
        spot = (list(values.columns).index(alpha), list(values.index).index(top_n))
        ax.add_patch(
            plt.Rectangle((spot[0] - 0.5, spot[1] - 0.5), 1, 1, fill=False, ec="#D55E00", lw=2.5)
        )
        ax.set(
            title=PANEL_NAME[direction],
            xlabel="alpha",
            xticks=range(values.shape[1]),
            xticklabels=[f"{a:g}" for a in values.columns],
            yticks=range(values.shape[0]),
            yticklabels=[f"{t:.0%}" for t in values.index],
        )
    axes[0, 0].set_ylabel("top-N neurons")
    fig.colorbar(image, ax=axes, label="success", pad=0.01)
    return fig


def control_bars(tables: dict[str, pd.DataFrame]):
    """Success of the chosen cell beside its controls and the rephrasing floor, with Wilson
    intervals, one panel a direction.

    Each table: columns name, success, low, high, n.
    """
    fig, axes = plt.subplots(1, len(tables), figsize=(WIDTH, 3.5), sharey=True, squeeze=False)
    for ax, (direction, table) in zip(axes[0], tables.items()):
        y = np.arange(len(table))[::-1]
        colors = [
            DIRECTION_COLOR[direction] if n == "steered" else COLOR["null"] for n in table.name
        ]
        error = np.clip([table.success - table.low, table.high - table.success], 0, None)
        ax.barh(y, table.success, color=colors, xerr=error, error_kw={"lw": 1})
        for yi, high, value, n in zip(y, table.high, table.success, table.n):
            ax.text(
                min(high + 0.02, 0.8),
                yi,
                f"{value:.0%} (n={n})",
                va="center",
                fontsize=8.5,
                bbox={"facecolor": "white", "alpha": 0.75, "lw": 0, "pad": 0.5},
            )
        ax.set_yticks(y, [CONTROL_NAME.get(n, n) for n in table.name])
        ax.set(title=PANEL_NAME[direction], xlabel="change sides")
        share_axis(ax, "x")
    return fig


def dose_response(table: pd.DataFrame):
    """Behaviour against alpha: steered (solid) and random neurons of the same norm (dashed), one
    panel a direction.

    Columns: direction, kind ('steered' or 'random'), alpha, memorization, generalization, other.
    """
    directions = list(dict.fromkeys(table.direction))
    fig, axes = plt.subplots(1, len(directions), figsize=(WIDTH, 3.6), sharey=True, squeeze=False)
    for ax, direction in zip(axes[0], directions):
        for kind, style in (("steered", "-"), ("random", ":")):
            rows = table[(table.direction == direction) & (table.kind == kind)]
            for behavior in ("memorization", "generalization", "other"):
                ax.plot(
                    rows.alpha,
                    rows[behavior],
                    style,
                    color=COLOR[behavior],
                    marker="." if kind == "steered" else "",
                    label=f"{behavior}{'' if kind == 'steered' else ', random neurons'}",
                )
        ax.set(title=PANEL_NAME[direction], xlabel="alpha (multiples of NMD)")
        share_axis(ax)
    axes[0, 0].set_ylabel("share of answers")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def ablation_bars(table: pd.DataFrame):
    """Success of each ablation (rows) by direction. Columns: ablation, direction, success, low,
    high.
    """
    names = list(dict.fromkeys(table.ablation))
    fig, ax = plt.subplots(figsize=(WIDTH, 0.9 + 0.5 * len(names)))
    y = np.arange(len(names))[::-1]
    for offset, direction in ((0.2, "m2g"), (-0.2, "g2m")):
        rows = table[table.direction == direction].set_index("ablation").reindex(names)
        error = np.clip([rows.success - rows.low, rows.high - rows.success], 0, None)
        ax.barh(
            y + offset,
            rows.success.fillna(0),
            0.38,
            xerr=np.nan_to_num(error),
            color=DIRECTION_COLOR[direction],
            label=DIRECTION_NAME[direction],
            error_kw={"lw": 1},
        )
    ax.set_yticks(y, names)
    ax.set_xlabel("prompts that change sides")
    share_axis(ax, "x")
    fig.legend(loc="outside upper center", ncols=2)
    return fig
