"""The figures of the page Performance: ratios to peers, and how cost grows."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from memgen.figures.style import WIDTH, Drawing

#: by work as the table of rounds has it, in words
WORKS = {
    "capture": "capture",
    "sweep all": "sweep, every position",
    "sweep decision": "sweep, last position",
}
AXES = {
    "prompts": "prompts",
    "cells": "cells",
    "layers": "layers",
    "width": "width of the hidden state",
}
CURVES = {
    ("capture", "ours"): ("#0072B2", "o", "-", "capture, ours"),
    ("capture", "plain hooks"): ("#0072B2", "o", "--", "capture, plain hooks"),
    ("sweep", "ours"): ("#D55E00", "s", "-", "sweep, ours"),
    ("sweep", "plain hooks"): ("#D55E00", "s", "--", "sweep, plain hooks"),
}


def against_peers(ratios: pd.DataFrame, names: dict[str, str], noise: str) -> Drawing:
    """A panel per size and work: how many times our CPU seconds each engine takes.

    `ratios`: rows of `size work engine ratio low high` (median, lowest and highest over rounds);
    `names`: sizes in words; `noise`: the engine that is ours once more, drawn as a band.
    """
    engines = [name for name in dict.fromkeys(ratios.engine) if name != noise]
    sizes, works = list(dict.fromkeys(ratios["size"])), list(dict.fromkeys(ratios.work))
    fig, axes = plt.subplots(
        len(sizes),
        len(works),
        figsize=(WIDTH + 1.4, 0.9 + (0.7 + 0.32 * len(engines)) * len(sizes)),
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for row, size in zip(axes, sizes, strict=True):
        for ax, work in zip(row, works, strict=True):
            part = ratios[(ratios["size"] == size) & (ratios.work == work)].set_index("engine")
            ax.axvline(1, color="#777777", lw=1)
            if noise in part.index:
                ax.axvspan(part.low[noise], part.high[noise], color="#DDDDDD", zorder=0)
            for y, name in enumerate(engines):
                if name in part.index:
                    one = part.loc[name]
                    ax.plot([one.low, one.high], [y, y], "-", color="#0072B2", lw=1.2)
                    ax.plot(one.ratio, y, "o", color="#0072B2", ms=5)
            ax.set_title(f"{names[size]}\n{WORKS[work]}", fontsize=10)
            ax.set_xscale("log")
            ax.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
            ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
            ax.xaxis.set_minor_formatter(NullFormatter())
            ax.tick_params(labelsize=9)
    axes[0, 0].set_yticks(range(len(engines)), engines)
    axes[0, 0].set_ylim(len(engines) - 0.5, -0.5)
    fig.supxlabel("CPU seconds, as multiples of ours", fontsize=11)
    caption = (
        "Right of 1: slower than ours. A dot is the median over rounds, a line reaches from the lowest"
        " to the highest round, and the grey band is ours timed against itself."
    )
    return Drawing(fig, _ratios_in_words(ratios, names, noise), caption, "performance")


def _ratios_in_words(ratios: pd.DataFrame, names: dict[str, str], noise: str) -> str:
    parts = []
    for (size, work), part in ratios.groupby(["size", "work"], sort=False):
        said = ", ".join(
            f"{'noise' if row.engine == noise else row.engine} {row.ratio:.2f}"
            for row in part.itertuples()
        )
        parts.append(f"{names[size]}, {WORKS[work]}: {said}")
    return "CPU seconds as multiples of ours. " + "; ".join(parts) + "."


def growing(medians: pd.DataFrame) -> Drawing:
    """A panel per axis: CPU seconds of capture and sweep against what grows, both logarithmic.

    `medians`: rows of `axis value work engine cpu_seconds`.
    """
    axes_there = [name for name in AXES if name in set(medians.axis)]
    fig, axes = plt.subplots(2, 2, figsize=(WIDTH + 0.6, 5.8), sharey=True, layout="constrained")
    for ax in axes.flat[len(axes_there) :]:
        ax.set_visible(False)
    for ax, name in zip(axes.flat, axes_there):
        part = medians[medians.axis == name]
        for (work, engine), (color, marker, line, _) in CURVES.items():
            of = part[(part.work == work) & (part.engine == engine)].sort_values("value")
            ax.plot(of.value, of.cpu_seconds, line, color=color, marker=marker, ms=4)
        values = sorted(set(part.value))
        ax.set(xscale="log", yscale="log", xlabel=AXES[name])
        ax.set_xticks(values, [f"{value:g}" for value in values])
        ax.xaxis.set_minor_formatter(NullFormatter())
    for ax in axes[:, 0]:
        ax.set_ylabel("CPU seconds")
    for color, marker, line, label in CURVES.values():
        axes[0, 0].plot([], [], line, color=color, marker=marker, ms=4, label=label)
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    caption = (
        "Medians over rounds. Along each axis one number of the study's model and scenario changes and"
        " all else stays; capture knows no cells."
    )
    return Drawing(fig, _growth_in_words(medians), caption, "growth")


def _growth_in_words(medians: pd.DataFrame) -> str:
    parts = []
    for (axis, work, engine), part in medians.groupby(["axis", "work", "engine"], sort=False):
        if (work, engine) in CURVES:
            part = part.sort_values("value")
            first, last = part.iloc[0], part.iloc[-1]
            parts.append(
                f"{CURVES[work, engine][3]}, {AXES[axis]} from {first.value:g} to {last.value:g}:"
                f" {first.cpu_seconds:.3g} to {last.cpu_seconds:.3g} s"
            )
    return "CPU seconds by what grows, logarithmic axes. " + "; ".join(parts) + "."
