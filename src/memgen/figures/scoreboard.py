"""Lab 13: the table of the methods as a figure, and what each pays for its success."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from memgen.figures.style import COLOR, DIRECTION_COLOR, PANEL_NAME, WIDTH, Drawing, share_axis
from memgen.terms import DIRECTIONS

#: how exactly an operator is known, as a mark behind the name of its method
MARK = {"code": "", "paper": "", "ours": "", "abstract": "*"}
COST = {"free": "free prompts lost", "keyed": "keyed prompts lost"}
MARKER = {"steering": "o", "editing": "s", "null": "D"}


def _color(kind: str, direction: str) -> str:
    return COLOR["control"] if kind == "null" else DIRECTION_COLOR[direction]


def _percent(value: float | None) -> str:
    return "none" if value is None or np.isnan(value) else f"{value:.0%}"


def _rows(scores: pd.DataFrame) -> pd.DataFrame:
    """A row per method, in the order of the table."""
    return scores.drop_duplicates("method").sort_values("number")


def board(scores: pd.DataFrame, r: dict) -> Drawing:
    """Success of every method: filled the kept candidate with its interval over keys, hollow the best one.

    The line is what another order of the words does by itself, the band ends at the best random direction.
    """
    methods = _rows(scores)
    place = {name: -i for i, name in enumerate(methods.method)}
    fig, axes = plt.subplots(
        1, len(DIRECTIONS), figsize=(WIDTH, 1.3 + 0.28 * len(methods)), sharey=True
    )
    for ax, direction in zip(axes, DIRECTIONS):
        own = scores[scores.direction == direction]
        chance = own[(own.method == "random_directions") & (own.choice == "kept")].success
        if len(chance) and not np.isnan(ends := float(chance.iloc[0] or 0)):
            ax.axvspan(0, ends, color=COLOR["null"], alpha=0.35, lw=0)
        ax.axvline(r[direction]["floor"]["success"], color=COLOR["other"], ls="--", lw=1)
        for row in own.itertuples(index=False):
            _mark(ax, row, place[row.method], _color(row.kind, direction))
        ax.set_title(PANEL_NAME[direction], fontsize=11)
        ax.set_xlabel("change sides")
        share_axis(ax, "x")
        ax.set_xticks((0, 0.5, 1))
        ax.grid(axis="y", lw=0.3)
    names = [f"{row.title}{MARK[row.read_in]} ({row.number})" for row in methods.itertuples()]
    axes[0].set_yticks([*place.values()], names, fontsize=9)
    axes[0].set_ylim(min(place.values()) - 0.7, 0.7)
    return Drawing(
        fig,
        alt=f"A row per method: share of test prompts that change sides. {_said(scores, r)}",
        caption=(
            "Share of test prompts that change sides. Filled: the candidate that loses at most"
            f" {r['collateral_limit']:.0%} of the free validation prompts, with its 95 % interval over keys;"
            " hollow: the most successful one, whatever it costs. Dashed: another order of the words alone."
            " Grey band: up to the best random direction within the limit. An edit that can only remove"
            " has no mark on the right. *: the operator is known from an abstract alone."
        ),
        name="board",
    )


def _mark(ax, row, y: float, color: str) -> None:
    success = np.nan if row.success is None else float(row.success)
    shape = MARKER[row.kind]
    if np.isnan(success):
        if row.choice == "kept":
            ax.text(0.02, y, "none within the limit", fontsize=7.5, va="center", color=color)
        return
    if row.choice == "max":
        ax.plot(success, y, shape, mfc="none", mec=color, ms=7)
        return
    if not np.isnan(low := float(np.nan if row.low is None else row.low)):
        ax.plot([low, row.high], [y, y], color=color, lw=1.5)
    ax.plot(success, y, shape, color=color, ms=5)


def _said(scores: pd.DataFrame, r: dict) -> str:
    said = []
    for direction in DIRECTIONS:
        own = scores[scores.direction == direction]
        parts = []
        for name, rows in own.groupby("method", sort=False):
            of = rows.set_index("choice").success
            parts.append(f"{name} {_percent(of['kept'])} (no limit {_percent(of['max'])})")
        floor = r[direction]["floor"]["success"]
        said.append(f"{direction}: {', '.join(parts)}; order alone {_percent(floor)}.")
    return " ".join(said)


def frontier(scores: pd.DataFrame, r: dict) -> Drawing:
    """Success against points of free, and of keyed, accuracy lost: a number per method, as in the table."""
    fig, axes = plt.subplots(len(DIRECTIONS), 2, figsize=(WIDTH, 6.4), sharey=True)
    for row, direction in zip(axes, DIRECTIONS):
        own = scores[(scores.direction == direction) & scores.success.notna()]
        for ax, (cost, name) in zip(row, COST.items()):
            for one in own.itertuples(index=False):
                color = _color(one.kind, direction)
                lost = 100 * float(getattr(one, f"{cost}_lost"))
                filled = {"color": color} if one.choice == "kept" else {"mfc": "none", "mec": color}
                ax.plot(lost, one.success, MARKER[one.kind], ms=6, alpha=0.8, **filled)
                ax.annotate(
                    one.number,
                    (lost, one.success),
                    xytext=(4, 3),
                    textcoords="offset points",
                    fontsize=7,
                )
            if cost == "free":
                ax.axvline(100 * r["collateral_limit"], color=COLOR["other"], ls="--", lw=1)
            ax.set_xlabel(f"{name}, points")
            ax.set_xscale("symlog", linthresh=5)
            ax.set_xticks([0, 1, 5, 20, 100], ["0", "1", "5", "20", "100"])
            share_axis(ax)
        row[0].set_ylabel("change sides")
        row[0].set_title(PANEL_NAME[direction].replace("\n", " "), fontsize=11)
    return Drawing(
        fig,
        alt=(
            "Scatter plots: success of every method against the free prompts, and the keyed prompts, that it"
            f" loses. {_frontier_said(scores)}"
        ),
        caption=(
            "What success costs on test keys, a point per method and choice, numbered as in the table"
            " (filled: within the limit on validation prompts, the dashed line; hollow: success alone)."
            " Lost keyed prompts are what a removal is for, and the price of steering. Points to the left of"
            " zero answer more prompts rightly than the untouched model."
        ),
        name="frontier",
    )


def _frontier_said(scores: pd.DataFrame) -> str:
    kept = scores[(scores.choice == "kept") & scores.success.notna()]
    said = [
        f"{row.direction} {row.method}: success {_percent(row.success)}, free"
        f" {100 * row.free_lost:.0f} points, keyed {100 * row.keyed_lost:.0f} points"
        for row in kept.itertuples(index=False)
    ]
    return f"Within the limit, {'; '.join(said)}." if said else "Nothing is within the limit."
