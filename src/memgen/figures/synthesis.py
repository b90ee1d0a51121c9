"""Figures of lab 8: the main finding, the gate, the ledger of claims, the two formats."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from memgen.claims.pooled import describe, steered, strongest
from memgen.figures.style import (
    COLOR,
    DIRECTION_COLOR,
    DIRECTION_NAME,
    PANEL_NAME,
    WIDTH,
    Drawing,
    share_axis,
)
from memgen.tasks.families import variants
from memgen.terms import CONTRADICTED, INCONCLUSIVE, SUPPORTED

VERDICT_COLOR = {
    SUPPORTED: COLOR["generalization"],
    CONTRADICTED: COLOR["memorization"],
    INCONCLUSIVE: COLOR["other"],
}
VERDICT_MARK = {SUPPORTED: "o", CONTRADICTED: "X", INCONCLUSIVE: "s"}
GATE_TITLES = {"memory": "memory", "rule": "rule", "other": "other", "free": "free accuracy"}
FORMAT_TITLES = {"m2g": "m2g success", "g2m": "g2m success", "auc": "AUC"}
FORMAT_STYLE = {"tagged": (-0.13, "#0072B2", "o"), "matched": (0.13, "#E69F00", "s")}


def main_finding(steering: pd.DataFrame, auc: pd.Series) -> Drawing:
    """The study in one figure: steering beside its strongest control, and the best probe's AUC.

    `steering`: `pooled_steering`; `auc`: by task.
    """
    tasks = list(dict.fromkeys(steering.task))
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH + 0.6, 1.5 + 0.66 * len(tasks)), sharey=True)
    y = np.arange(len(tasks))[::-1]
    for ax, direction in zip(axes, DIRECTION_NAME, strict=True):
        success, control = (
            pd.DataFrame([row(steering, task, direction) for task in tasks]).infer_objects()
            for row in (steered, strongest)
        )
        for part, offset, color in (
            (success, 0.19, DIRECTION_COLOR[direction]),
            (control, -0.19, COLOR["null"]),
        ):
            error = np.clip([part.rate - part.low, part.high - part.rate], 0, None)
            ax.barh(y + offset, part.rate, 0.36, xerr=error, color=color, error_kw={"lw": 1})
            for yi, high, rate in zip(y + offset, part.high, part.rate, strict=True):
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
    caption = (
        "Steering on test keys beside the strongest control of each task, prompts pooled over seeds,"
        " 95 % Wilson intervals; and the AUC of the best layer's probe, mean of seeds."
    )
    return Drawing(fig, describe(steering, auc), caption, "main-finding")


def gate(table: pd.DataFrame) -> Drawing:
    """Behaviour on test keys (`table`: `overview`), a panel per rate: dots seeds, bars means."""
    tasks = list(dict.fromkeys(table.task))
    fig, axes = plt.subplots(
        1, len(GATE_TITLES), figsize=(WIDTH + 0.6, 0.9 + 0.5 * len(tasks)), sharey=True
    )
    y = {task: i for i, task in enumerate(reversed(tasks))}
    for ax, (column, title) in zip(axes, GATE_TITLES.items(), strict=True):
        at = [y[t] for t in table.task]
        ax.plot(table[column], at, "o", color=COLOR["generalization"], alpha=0.7)
        for task, rows in table.groupby("task"):
            ends = [y[task] - 0.25, y[task] + 0.25]
            ax.plot([rows[column].mean()] * 2, ends, color="black", lw=2)
        ax.set(title=title)
        ax.set_xlim(-0.02, 1.02)
    axes[0].set_yticks(list(y.values()), list(y))
    alt = "Dots: behaviour on test conflict prompts of every task and seed: " + "; ".join(
        f"{row.task} seed {row.seed}: memory {row.memory:.2f}, rule {row.rule:.2f}, other"
        f" {row.other:.2f}, free {row.free:.2f}"
        for row in table.itertuples()
    )
    return Drawing(fig, alt, "The gate on test keys: every seed a dot, the mean a bar.", "gate")


def forest(claims: list[dict]) -> Drawing:
    """Every tested claim on every case: effect and interval as distance from the threshold.

    Right of the line is the side that supports the claim.
    """
    alt = "Every claim on every task, effect less threshold with its 95 % interval: " + " ".join(
        f"{claim['name']}: {claim['evidence']}" for claim in claims
    )
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
    caption = (
        "The ledger of claims. Each dot is a task, from top to bottom in the order of the tables (for"
        " *format helps*, a family of tasks): its effect as distance from the threshold, with a 95 %"
        " interval. Where both ends lie on one side, the verdict is clear."
    )
    return Drawing(fig, alt, caption, "ledger")


def formats(numbers: dict[str, dict], families: list[str]) -> Drawing:
    """Tagged against matched, one family at least: steering, AUC; `numbers`: `main_numbers`."""
    fig, axes = plt.subplots(
        1, len(FORMAT_TITLES), figsize=(WIDTH, 1.6 + 0.7 * len(families)), sharey=True
    )
    for ax, (name, title) in zip(axes, FORMAT_TITLES.items(), strict=True):
        for row, family in enumerate(families):
            for (variant, style), task in zip(FORMAT_STYLE.items(), variants(family), strict=True):
                shift, color, marker = style
                x = numbers[task][name]
                if x["value"] is None:
                    continue
                if x["low"] is not None:
                    ax.plot([x["low"], x["high"]], [row + shift] * 2, color=color, lw=2)
                label = f"{variant} answers" if not row else None
                ax.plot(x["value"], row + shift, marker, color=color, ms=7, label=label)
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
    alt = "Tagged against matched answers: " + "; ".join(
        f"{family} {name}: " + " against ".join(_said(numbers[t][name]) for t in variants(family))
        for family in families
        for name in FORMAT_TITLES
    )
    caption = (
        "The same keys, prompts and recipe; only the format of the memory answer differs. 95 %"
        " intervals over seeds and keys."
    )
    return Drawing(fig, alt, caption, "format")


def _said(number: dict) -> str:
    return "undefined" if number["value"] is None else f"{number['value']:.2f}"
