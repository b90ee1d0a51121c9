"""The figure of the arms of training: both behaviours on test keys, by who was taught what."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd

from memgen.figures.style import COLOR, WIDTH, Drawing, share_axis

RATES = {"memory_rate": ("memorization", "memory"), "rule_rate": ("generalization", "rule")}


def by_arm(table: pd.DataFrame, names: dict[str, str]) -> Drawing:
    """A block per task, a row per arm: memory and rule on test keys, a mark per seed.

    `table`: as `data/reference/arms/results.csv`; `names`: arms in words. Filled marks passed the
    gate of the study.
    """
    tasks = list(dict.fromkeys(table.task))
    places = [(task, arm) for task in tasks for arm in ("", *names)]
    fig, ax = plt.subplots(figsize=(WIDTH, 1.5 + 0.26 * len(places)))
    for y, (task, arm) in enumerate(places):
        rows = table[(table.task == task) & (table.arm == arm)]
        for offset, (column, (color, _)) in zip((-0.16, 0.16), RATES.items(), strict=True):
            for row in rows.itertuples():
                face = COLOR[color] if row.passed else "none"
                at = (getattr(row, column), y + offset)
                ax.plot(*at, "o", color=COLOR[color], mfc=face, ms=5)
        if y and not arm:
            ax.axhline(y - 0.6, color="#DDDDDD", lw=0.8)
    ax.axvline(0.25, color="#999999", lw=0.8, ls=":")
    share_axis(ax, "x")
    ax.set_yticks(range(len(places)), [names.get(arm, task) for task, arm in places])
    ax.tick_params(axis="y", length=0)
    for (_, arm), label in zip(places, ax.get_yticklabels(), strict=True):
        label.set_fontweight("normal" if arm else "bold")
    ax.set(ylim=(len(places) - 0.4, -0.6), xlabel="share of conflict prompts")
    for color, label in RATES.values():
        ax.plot([], [], "o", color=COLOR[color], label=label)
    ax.plot([], [], "o", color="#555555", mfc="none", label="did not pass the gate")
    handles = ax.get_legend_handles_labels()
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
