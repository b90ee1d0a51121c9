"""The figure of the arms of training: both behaviours on test keys, by who was taught what."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd

from memgen.figures.style import COLOR, SMALL, WIDTH, Drawing, share_axis

RATES = {"memory_rate": ("memorization", "memory"), "rule_rate": ("generalization", "rule")}


def by_arm(table: pd.DataFrame, names: dict[str, str]) -> Drawing:
    """A panel per task, a row per arm: memory and rule on test keys, a mark per seed.

    `table`: as `data/reference/arms/results.csv`; `names`: arms in words. Filled marks passed the
    gate of the study.
    """
    tasks = list(dict.fromkeys(table.task))
    fig, axes = plt.subplots(
        1, len(tasks), figsize=(WIDTH, 1.5 + 0.5 * len(names)), sharey=True, squeeze=False
    )
    for ax, task in zip(axes[0], tasks, strict=True):
        for y, arm in enumerate(names):
            rows = table[(table.task == task) & (table.arm == arm)]
            for offset, (column, (color, _)) in zip((-0.13, 0.13), RATES.items(), strict=True):
                for row in rows.itertuples():
                    face = COLOR[color] if row.passed else "none"
                    ax.plot(getattr(row, column), y + offset, "o", color=COLOR[color], mfc=face)
        ax.axvline(0.25, color="#999999", lw=0.8, ls=":")
        ax.set_title(task.replace("-", "\n", 1), fontsize=SMALL)
        share_axis(ax, "x")
    axes[0, 0].set_yticks(range(len(names)), list(names.values()))
    axes[0, 0].set_ylim(len(names) - 0.5, -0.5)
    for color, label in RATES.values():
        axes[0, 0].plot([], [], "o", color=COLOR[color], label=label)
    axes[0, 0].plot([], [], "o", color="#555555", mfc="none", label="did not pass the gate")
    handles = axes[0, 0].get_legend_handles_labels()
    fig.legend(*handles, loc="outside lower center", ncols=2)
    caption = (
        "Share of the test keys' conflict prompts answered from memory and by the rule, at the"
        " checkpoint that was kept; a mark per seed. Dotted: the least share that the gate asks for."
    )
    return Drawing(fig, describe(table, names), caption, "arms")


def describe(table: pd.DataFrame, names: dict[str, str]) -> str:
    """The figure in words."""
    parts = []
    for (task, arm), rows in table.groupby(["task", "arm"], sort=False):
        said = f"memory {rows.memory_rate.mean():.2f}, rule {rows.rule_rate.mean():.2f}"
        passed = f"{int(rows.passed.sum())} of {len(rows)} passed"
        parts.append(f"{task}, {names[arm]}: {said}, {passed}")
    return "Both behaviours on test keys by arm of training. " + "; ".join(parts) + "."
