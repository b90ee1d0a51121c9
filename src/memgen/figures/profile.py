"""Where the CPU seconds of a study went: a bar a lab, in parts by phase, a panel a track."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from memgen.figures.style import GREEN, ORANGE, PINK, PURPLE, SMALL, WIDTH, Drawing
from memgen.phases import NOT_RECORDED, PHASES

#: colour and pattern, so that no two neighbours differ by colour alone
LOOKS = {
    "process start": ("#777777", ""),
    "training": (PURPLE, ""),
    "evaluation": ("#C9B3DE", "////"),
    "answers": (PINK, ""),
    "capture": (GREEN, "...."),
    "sweep": ("#00513B", ""),
    "probes": (ORANGE, "\\\\\\\\"),
    "other": ("#BBBBBB", ""),
    "figures": ("#F0E442", "xxxx"),
    NOT_RECORDED: ("#DDDDDD", "////"),
}


def by_phase(table: pd.DataFrame) -> Drawing:
    """`table`: one row a stage and phase, with lab, track, phase, seconds of processors."""
    phases = [name for name in (*PHASES, NOT_RECORDED) if name in set(table.phase)]
    labs = {track: sorted(rows.lab.unique()) for track, rows in table.groupby("track", sort=False)}
    n_bars = [len(names) for names in labs.values()]
    fig, axes = plt.subplots(
        len(labs),
        figsize=(WIDTH, 1.5 + 0.5 * len(labs) + 0.24 * sum(n_bars)),
        squeeze=False,
        sharex=True,
        height_ratios=[one + 1 for one in n_bars],
    )
    for ax, (track, names) in zip(axes[:, 0], labs.items(), strict=True):
        sums = table[table.track == track].groupby(["lab", "phase"]).seconds.sum()
        left = np.zeros(len(names))
        for name in phases:
            color, hatch = LOOKS[name]
            part = np.array([sums.get((lab, name), 0.0) for lab in names])
            looks = {"color": color, "hatch": hatch, "edgecolor": "white", "lw": 0.4}
            ax.barh(names, part, left=left, label=name, **looks)
            left += part
        ax.set(title=track, ylim=(len(names) - 0.5, -0.5))
        ax.tick_params(axis="y", labelsize=SMALL)
    axes[-1, 0].set_xlabel("CPU seconds, all runs together")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    caption = (
        "Seconds that the processors worked, by lab and by phase, added up over tasks and seeds; a panel"
        " is a track. A phase inside another is counted apart. "
    )
    caption += "; ".join(f"{name}: {PHASES[name]}" for name in phases if name in PHASES) + "."
    if NOT_RECORDED in phases:
        caption += " Not recorded: the lab was run before phases were counted."
    return Drawing(fig, describe(table), caption, "profile")


def describe(table: pd.DataFrame) -> str:
    """The figure in words: every bar, its three longest parts first."""
    parts = []
    for (track, lab), rows in table.groupby(["track", "lab"], sort=False):
        sums = rows.groupby("phase").seconds.sum().sort_values(ascending=False, kind="stable")
        longest = ", ".join(f"{name} {seconds:.0f}" for name, seconds in sums.head(3).items())
        parts.append(f"{track}, {lab}: {sums.sum():.0f} ({longest})")
    return "Bars of CPU seconds by lab and phase. " + "; ".join(parts) + "."
