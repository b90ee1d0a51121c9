"""The figure of the scale sweep: four quantities against the size of the model."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.ticker import NullLocator

from memgen.figures.style import ORANGE, PURPLE, WIDTH, Drawing

PANELS = {
    "max_abs_rho": "largest |rho|",
    "auc": "AUC of the best probe",
    "m2g": "m2g success",
    "g2m": "g2m success",
}
STYLE = {
    "arithmetic-tagged": (PURPLE, "o", "tagged"),
    "arithmetic-matched": (ORANGE, "s", "matched"),
}


def against_size(table: pd.DataFrame) -> Drawing:
    """Four quantities against size: a dot per seed, a line of means, dashed the strongest control.

    `table`: as `data/reference/scale/results.csv`. The control is each run's, then averaged.
    """
    passed = table[table.passed]
    fig, axes = plt.subplots(2, 2, figsize=(WIDTH, 5.2), sharex=True)
    for ax, (name, title) in zip(axes.flat, PANELS.items(), strict=True):
        for task, (color, marker, label) in STYLE.items():
            rows = passed[passed.task == task]
            mean = (
                rows.groupby(["width", "depth"]).mean(numeric_only=True).sort_values("n_parameters")
            )
            ax.plot(rows.n_parameters, rows[name], marker, color=color, ms=5, alpha=0.6)
            ax.plot(mean.n_parameters, mean[name], "-", color=color, label=label)
            if f"{name}_control" in table:
                ax.plot(mean.n_parameters, mean[f"{name}_control"], "--", color=color, lw=1)
        ax.set(title=title, xscale="log", ylim=(-0.02, 1.04))
    sizes = sorted(passed.groupby(["width", "depth"]).n_parameters.first() / 1e6)
    for ax in axes[1]:  # the sizes that were trained, instead of powers of ten
        ax.set_xticks(
            [1e6 * size for size in sizes],
            [f"{size:.1f}" if size < 10 else f"{size:.0f}" for size in sizes],
        )
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xlabel("million parameters")
    axes[0, 0].plot([], [], "--", color="#777777", lw=1, label="strongest shift as control")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    caption = (
        "A dot is a seed, a line the mean of those that passed the gate. Dashed: the strongest shift"
        " that is a control. The number of parameters includes the embeddings."
    )
    return Drawing(fig, describe(table), caption, "scale")


def describe(table: pd.DataFrame) -> str:
    """The figure in words."""
    parts = []
    for (task, width, depth), rows in table.groupby(["task", "width", "depth"], sort=False):
        known = rows[rows.passed]
        numbers = (
            ", ".join(f"{title} {known[name].mean():.2f}" for name, title in PANELS.items())
            if len(known)
            else "no run passed the gate"
        )
        parts.append(f"{task}, width {width}, depth {depth}: {numbers}")
    return "Four quantities against model size. " + "; ".join(parts) + "."
