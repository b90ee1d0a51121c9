"""Lab 06: the race, the controls, doses, and what is needed of the shift."""

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
    Drawing,
    share_axis,
)
from memgen.terms import BEHAVIORS, DIRECTIONS


def _panels(height: float):
    """One panel per direction."""
    return plt.subplots(1, len(DIRECTIONS), figsize=(WIDTH, height), sharey=True)


def grid_heatmaps(races: pd.DataFrame, chosen: dict[str, tuple[float, float]]) -> Drawing:
    """Success on validation keys; dots: left the race early, box: the chosen `(top_n, alpha)`."""
    fig, axes = _panels(3.6)
    for ax, direction in zip(axes, DIRECTIONS):
        table = races[races.direction == direction]
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
    axes[0].set_ylabel("top-N neurons")
    fig.colorbar(image, ax=axes, label="success", pad=0.01)
    picked = "; ".join(
        f"{d}: top {top_n:.0%}, alpha {alpha:g}" for d, (top_n, alpha) in chosen.items()
    )
    return Drawing(
        fig,
        alt=(
            "Heatmaps of steering success on validation keys by alpha and top-N, one per direction;"
            f" chosen: {picked}"
        ),
        caption=(
            "The race on validation keys. A dot marks a cell that left before all prompts were run,"
            " because it could no longer win; the box marks the chosen one."
        ),
        name="grid",
    )


def control_bars(controls: pd.DataFrame) -> Drawing:
    """Success of the chosen cell beside its controls and the rephrasing floor, with Wilson intervals.

    Columns: direction, name, success, low, high, n.
    """
    fig, axes = _panels(3.5)
    tables = {d: controls[controls.direction == d] for d in DIRECTIONS}
    for ax, (direction, table) in zip(axes, tables.items()):
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
    listed = {
        d: ", ".join(f"{row.name} {row.success:.0%}" for row in table.itertuples(index=False))
        for d, table in tables.items()
    }
    return Drawing(
        fig,
        alt=(
            "Bars: share of test prompts that change sides under the chosen cell and its controls. "
            + " ".join(f"{d}: {names}." for d, names in listed.items())
        ),
        caption=(
            "The chosen cell on test keys, its controls at the same number of neurons and the same"
            " norm, and the floor: what rephrasing alone does. 95 % Wilson intervals; n counts prompts"
            " times draws."
        ),
        name="controls",
    )


def dose_response(table: pd.DataFrame) -> Drawing:
    """Behaviour against alpha: steered (solid) and random neurons of the same norm (dotted).

    Columns: direction, kind ('steered' or 'random'), alpha, memorization, generalization, other.
    """
    fig, axes = _panels(3.6)
    for ax, direction in zip(axes, DIRECTIONS):
        for kind, style in (("steered", "-"), ("random", ":")):
            rows = table[(table.direction == direction) & (table.kind == kind)]
            for behavior in BEHAVIORS:
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
    axes[0].set_ylabel("share of answers")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return Drawing(
        fig,
        alt=(
            "Shares of memorization, generalization and other answers on test prompts against alpha,"
            " for the top neurons and for random neurons of the same norm, one panel per direction"
        ),
        caption=(
            "Dose and response on test keys at the chosen top-N. Solid: top neurons; dotted: random"
            " neurons of the same norm."
        ),
        name="dose",
    )


def ablation_bars(table: pd.DataFrame) -> Drawing:
    """Success of each ablation by direction. Columns: ablation, direction, success, low, high."""
    names = list(dict.fromkeys(table.ablation))
    fig, ax = plt.subplots(figsize=(WIDTH, 0.9 + 0.5 * len(names)))
    y = np.arange(len(names))[::-1]
    for offset, direction in zip((0.2, -0.2), DIRECTIONS):
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
    listed = "; ".join(
        f"{row.ablation} {row.direction} {row.success:.0%}" for row in table.itertuples(index=False)
    )
    return Drawing(
        fig,
        alt=f"Bars: success of the intervention when reduced: {listed}",
        caption=(
            "What is needed: one layer alone, all layers but one, the decision position only, or"
            " another site (tuned anew on validation keys)."
        ),
        name="ablations",
    )
