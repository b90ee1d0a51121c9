"""The figures of the page Performance: ratios to peers, and how cost grows."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from memgen.figures.style import GREEN, ORANGE, PURPLE, SMALL, Drawing

#: by work as the table of rounds has it, in words
WORKS = {
    "capture": "capture",
    "sweep all": "sweep, every position",
    "sweep decision": "sweep, last position",
}
MARKS = {
    "capture": (PURPLE, "o"),
    "sweep all": (ORANGE, "s"),
    "sweep decision": (GREEN, "^"),
}
AXES = {
    "prompts": "prompts",
    "cells": "cells",
    "layers": "layers",
    "width": "width of hidden states",
}
NARROW = 5.0  # inches: labels stay readable where a phone shows the figure in its own width
CURVES = {
    ("capture", "ours"): (PURPLE, "o", "-", "capture, ours"),
    ("capture", "plain hooks"): (PURPLE, "o", "--", "capture, plain hooks"),
    ("sweep", "ours"): (ORANGE, "s", "-", "sweep, ours"),
    ("sweep", "plain hooks"): (ORANGE, "s", "--", "sweep, plain hooks"),
}


def against_peers(ratios: pd.DataFrame, names: dict[str, str], noise: str) -> Drawing:
    """A panel per size: how many times our CPU seconds each engine takes, by work.

    `ratios`: rows of `size work engine ratio low high` (median, lowest and highest over rounds);
    `names`: sizes in words; `noise`: the engine that is ours once more, which stands first.
    """
    # in the order of the work that most of them did
    full = max((part.engine for _, part in ratios.groupby(["size", "work"])), key=len)
    engines = sorted(dict.fromkeys([*full, *ratios.engine]), key=lambda name: name != noise)
    sizes, works = list(dict.fromkeys(ratios["size"])), list(dict.fromkeys(ratios.work))
    fig, axes = plt.subplots(
        len(sizes),
        1,
        figsize=(NARROW, 1.3 + (0.4 + 0.42 * len(engines)) * len(sizes)),
        sharex=True,
        squeeze=False,
    )
    for ax, size in zip(axes[:, 0], sizes, strict=True):
        ax.axvline(1, color="#777777", lw=1)
        for place, work in enumerate(works):
            part = ratios[(ratios["size"] == size) & (ratios.work == work)]
            color, marker = MARKS[work]
            y = part.engine.map(engines.index) + 0.24 * (place - (len(works) - 1) / 2)
            ax.hlines(y, part.low, part.high, color=color, lw=1.4)
            ax.plot(part.ratio, y, marker, color=color, ms=5, label=WORKS[work])
        for y in range(1, len(engines), 2):
            ax.axhspan(y - 0.5, y + 0.5, color="#F3F3F3", zorder=0)
        ax.set_title(names[size], fontsize=SMALL)
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 1.5, 2, 3, 5)))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.tick_params(labelsize=SMALL)
        ax.set_yticks(range(len(engines)), engines)
        ax.set_ylim(len(engines) - 0.5, -0.5)
    axes[-1, 0].set_xlabel("CPU seconds, as multiples of ours", fontsize=SMALL)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=SMALL)
    caption = (
        "Right of 1: slower than ours. A mark is the median over rounds, a line reaches from the lowest"
        " to the highest round. The first row is ours timed against itself: the noise."
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
    rows = (len(axes_there) + 1) // 2
    fig, axes = plt.subplots(
        rows,
        2,
        figsize=(NARROW, 0.8 + 2.2 * rows),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for ax in axes.flat[len(axes_there) :]:
        ax.set_visible(False)
    for ax, name in zip(axes.flat, axes_there):
        part = medians[medians.axis == name]
        for (work, engine), (color, marker, line, _) in CURVES.items():
            of = part[(part.work == work) & (part.engine == engine)].sort_values("value")
            ax.plot(of.value, of.cpu_seconds, line, color=color, marker=marker, ms=4)
        values = sorted(set(part.value))
        ax.set(xscale="log", yscale="log")
        ax.set_xlabel(AXES[name], fontsize=SMALL)
        ax.set_xticks(values, [f"{value:g}" for value in values])
        ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_minor_formatter(NullFormatter())
        ax.tick_params(labelsize=SMALL)
    for ax in axes[:, 0]:
        ax.set_ylabel("CPU seconds", fontsize=SMALL)
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
