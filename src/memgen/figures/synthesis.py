"""Figures: a table or arrays in, a matplotlib figure out. One style, one colour a behaviour,
everywhere.

The colours are Okabe and Ito's, which the colour-blind can tell apart; no figure relies on colour
alone.

The ledger of claims as one figure.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from memgen.figures.style import (
    COLOR,
    DIRECTION_COLOR,
    DIRECTION_NAME,
    PANEL_NAME,
    WIDTH,
    share_axis,
)


def main_finding(steering: pd.DataFrame, auc: pd.Series):
    """The study in one figure: success of steering beside its strongest control, per task and
    direction; the AUC of the best probe with the task.
    """
    tasks = list(dict.fromkeys(steering.task))
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH + 0.6, 1.5 + 0.66 * len(tasks)), sharey=True)
    y = np.arange(len(tasks))[::-1]
    for ax, direction in zip(axes, DIRECTION_NAME):
        rows = steering[steering.direction == direction]
        steered = rows[rows.kind == "steered"].set_index("task").loc[tasks]
        controls = rows[~rows.kind.isin(["steered", "rephrasing"])]
        strongest = (
            controls.loc[controls.groupby("task").rate.idxmax()].set_index("task").loc[tasks]
        )
        for part, offset, color in (
            (steered, 0.19, DIRECTION_COLOR[direction]),
            (strongest, -0.19, COLOR["null"]),
        ):
            error = np.clip([part.rate - part.low, part.high - part.rate], 0, None)
            ax.barh(y + offset, part.rate, 0.36, xerr=error, color=color, error_kw={"lw": 1})
            for yi, high, rate in zip(y + offset, part.high, part.rate):
                inside = high > 0.84  # no room beside the bar
                ax.text(
                    rate - 0.08 if inside else high + 0.02,
                    yi,
                    f"{rate:.0%}",
                    va="center",
                    fontsize=10.5,
                    ha="right" if inside else "left",
                    color="white" if inside and offset > 0 else "black",
                )
        ax.set(title=PANEL_NAME[direction], xlabel="change sides")
        share_axis(ax, "x")
    axes[0].set_yticks(y, [f"{task.replace('-', ' ')}\nAUC {auc[task]:.2f}" for task in tasks])
    handles = [plt.Rectangle((0, 0), 1, 1, color=c) for c in ("#555555", COLOR["null"])]
    fig.legend(
        handles,
        ["top neurons (coloured)", "strongest control (grey)"],
        loc="outside lower center",
        ncols=2,
    )
    return fig


def seed_dots(table: pd.DataFrame, columns: dict[str, str]):
    """One panel a column of `table` (task, seed, ...): every seed a dot, the mean a bar."""
    tasks = list(dict.fromkeys(table.task))
    fig, axes = plt.subplots(
        1, len(columns), figsize=(WIDTH + 0.6, 0.9 + 0.5 * len(tasks)), sharey=True, squeeze=False
    )
    y = {task: i for i, task in enumerate(reversed(tasks))}
    for ax, (column, title) in zip(axes[0], columns.items()):
        ax.plot(
            table[column], [y[t] for t in table.task], "o", color=COLOR["generalization"], alpha=0.7
        )
        for task, rows in table.groupby("task"):
            ax.plot(
                [rows[column].mean()] * 2, [y[task] - 0.25, y[task] + 0.25], color="black", lw=2
            )
        ax.set(title=title)
        ax.set_xlim(-0.02, 1.02)
    axes[0, 0].set_yticks(list(y.values()), list(y))
    return fig


VERDICT_COLOR = {
    "supported": COLOR["generalization"],
    "contradicted": COLOR["memorization"],
    "inconclusive": COLOR["other"],
}
VERDICT_MARK = {"supported": "o", "contradicted": "X", "inconclusive": "s"}


def forest(claims: list[dict]):
    """Every claim on every case: its effect with its interval, as distance from the threshold.

    Right of the line is the side that supports the claim. Claims that could not be tested have no
    row.
    """
    claims = [claim for claim in claims if claim["cases"]]
    rows = sum(len(claim["cases"]) for claim in claims)
    fig, ax = plt.subplots(figsize=(WIDTH, 1.2 + 0.14 * rows + 0.17 * len(claims)))
    y, ticks = 0.0, []
    for claim in claims:
        sign = 1 if claim["above"] else -1
        first = y
        for case in claim["cases"].values():
            at = sign * (case["effect"] - claim["threshold"])
            ax.plot(
                at, y, VERDICT_MARK[case["verdict"]], color=VERDICT_COLOR[case["verdict"]], ms=4.5
            )
            if case["interval"][0] is not None:
                ax.plot(
                    [sign * (edge - claim["threshold"]) for edge in case["interval"]],
                    [y, y],
                    color=VERDICT_COLOR[case["verdict"]],
                    lw=1.5,
                )
            y += 1
        ticks.append(((first + y - 1) / 2, claim["name"]))
        y += 0.6
        ax.axhline(y - 0.8, color="#DDDDDD", lw=0.6)
    ax.axvline(0, color="black", lw=1)
    ax.set_yticks([tick for tick, _ in ticks], [name for _, name in ticks], fontsize=10)
    ax.set(
        xlabel="effect less threshold (right: for the claim)",
        ylim=(y - 0.4, -1),
        xlim=(-1.05, 1.05),
    )
    for verdict, color in VERDICT_COLOR.items():
        ax.plot([], [], VERDICT_MARK[verdict], color=color, label=verdict)
    fig.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return fig


def formats(numbers: dict[str, dict], families: list[str]):
    """Tagged against matched answers: steering both ways and the AUC of the probe, with intervals
    over seeds and keys. `numbers`: `ledger.main_numbers`.
    """
    panels = {"m2g": "m2g success", "g2m": "g2m success", "auc": "AUC"}
    fig, axes = plt.subplots(
        1, len(panels), figsize=(WIDTH, 1.6 + 0.7 * len(families)), sharey=True
    )
    for ax, (name, title) in zip(axes, panels.items()):
        for row, family in enumerate(families):
            for shift, variant, color, marker in (
                (-0.13, "tagged", "#0072B2", "o"),
                (0.13, "matched", "#E69F00", "s"),
            ):
                x = numbers[f"{family}-{variant}"][name]
                if x["value"] is None:
                    continue
                if x["low"] is not None:
                    ax.plot([x["low"], x["high"]], [row + shift] * 2, color=color, lw=2)
                ax.plot(
                    x["value"],
                    row + shift,
                    marker,
                    color=color,
                    ms=7,
                    label=f"{variant} answers" if not row else None,
                )
        if name == "auc":
            ax.axvline(0.5, color="#999999", lw=0.8, ls=":")
        ax.set(
            title=title,
            xlim=(-0.03, 1.03),
            yticks=range(len(families)),
            yticklabels=families,
            ylim=(len(families) - 0.5, -0.5),
            xticks=[0, 0.5, 1],
        )
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig
