"""The figure of the scale sweep: four quantities against the size of the model."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from memgen.figures.style import ORANGE, PURPLE, WIDTH, Drawing
from memgen.terms import DIRECTIONS

#: by column, what a panel shows, and what is dashed in it
PANELS = {
    "max_abs_rho": ("largest |rho|", None),
    "auc": ("AUC of the best probe", "forecast_auc"),
    **{d: (f"{d} success within the limit", f"{d}_most") for d in DIRECTIONS},
}
STYLE = {
    "arithmetic-tagged": (PURPLE, "o", "tagged"),
    "arithmetic-matched": (ORANGE, "s", "matched"),
}
GREY = "#777777"


def against_size(table: pd.DataFrame) -> Drawing:
    """Four quantities against size: a dot per seed, a line of means, dashed what stands beside them.

    `table`: as `data/reference/scale/results.csv`.
    """
    passed = table[table.passed]
    fig, axes = plt.subplots(2, 2, figsize=(WIDTH, 5.4), sharex=True)
    for ax, (name, (title, beside)) in zip(axes.flat, PANELS.items(), strict=True):
        for task, (color, marker, label) in STYLE.items():
            rows = passed[passed.task == task]
            mean = _means(rows)
            ax.plot(rows.n_parameters, rows[name], marker, color=color, ms=5, alpha=0.6)
            ax.plot(mean.n_parameters, mean[name], "-", color=color, label=label)
            if beside:
                ax.plot(mean.n_parameters, mean[beside], "--", color=color, lw=1)
        ax.set(title=title, xscale="log", ylim=(-0.02, 1.04))
    for ax in axes[1]:
        _name_sizes(ax, passed)
    axes[0, 0].plot(
        [], [], "--", color=GREY, lw=1, label="AUC: forecast without states; success: at any cost"
    )
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    caption = (
        "A dot is a seed, a line the mean of those that passed the gate. Dashed, of AUC: the strongest"
        " forecast without the model's states; of success: the cell of greatest success on validation"
        " keys, whatever it costs. A seed without a cell within the limit counts as 0. The number of"
        " parameters includes the embeddings."
    )
    return Drawing(fig, describe(table), caption, "scale")


def _means(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.groupby(["width", "depth"]).mean(numeric_only=True).sort_values("n_parameters")


def _name_sizes(ax: Axes, passed: pd.DataFrame) -> None:
    """The sizes that were trained below the axis, instead of powers of ten."""
    sizes = sorted(passed.groupby(["width", "depth"]).n_parameters.first() / 1e6)
    names = [f"{size:.1f}" if size < 10 else f"{size:.0f}" for size in sizes]
    ax.set_xticks([1e6 * size for size in sizes], names)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("million parameters")


def describe(table: pd.DataFrame) -> str:
    """The figure in words."""
    parts = []
    for (task, width, depth), rows in table.groupby(["task", "width", "depth"], sort=False):
        known = rows[rows.passed]
        numbers = (
            ", ".join(f"{title} {known[name].mean():.2f}" for name, (title, _) in PANELS.items())
            if len(known)
            else "no run passed the gate"
        )
        parts.append(f"{task}, width {width}, depth {depth}: {numbers}.")
    return "Four quantities against model size. " + " ".join(parts)
