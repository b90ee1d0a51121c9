"""Lab 13: the table of the methods as a figure, and what each pays for its success."""

from __future__ import annotations

from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from memgen.figures.style import (
    COLOR,
    DIRECTION_COLOR,
    DIRECTION_NAME,
    PANEL_NAME,
    SMALL,
    WIDTH,
    Drawing,
    share_axis,
)
from memgen.terms import DIRECTIONS

#: how exactly an operator is known, as a mark behind the name of its method
MARK = {"code": "", "paper": "", "ours": "", "abstract": "*"}
COST = {"free": "free prompts lost", "keyed": "keyed prompts lost"}
MARKER = {"steering": "o", "editing": "s", "null": "D"}
#: where the number of a method may stand beside its mark, in points: at the first that is free
BESIDE = ((0, 11), (6, 0), (-6, 0), (0, -11), (6, 8), (-6, 8), (6, -8), (-6, -8))
#: inches, about: a panel of the frontier; how far apart numbers and marks have to be
PANEL, CLEAR = (2.4, 2.9), (0.15, 0.12)


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
    names = [
        fill(f"{row.title}{MARK[row.read_in]}\u00a0({row.number})", 26)
        for row in methods.itertuples()
    ]
    line = 0.4 if any("\n" in name for name in names) else 0.3
    fig, axes = plt.subplots(
        1, len(DIRECTIONS), figsize=(WIDTH, 1.4 + line * len(methods)), sharey=True
    )
    for ax, direction in zip(axes, DIRECTIONS):
        own = scores[scores.direction == direction]
        chance = own[(own.method == "random_directions") & (own.choice == "kept")].success
        if len(chance) and not np.isnan(ends := float(chance.iloc[0] or 0)):
            ax.axvspan(0, ends, color=COLOR["null"], alpha=0.35, lw=0)
        ax.axvline(r[direction]["floor"]["success"], color=COLOR["other"], ls="--", lw=1)
        for name, rows in own.groupby("method"):
            _mark(ax, rows, place[name], _color(rows.kind.iloc[0], direction))
        ax.set(title=PANEL_NAME[direction], xlabel="change sides")
        share_axis(ax, "x")
        ax.set_xticks((0, 0.5, 1))
        ax.grid(axis="y", lw=0.3)
    axes[0].set_yticks([*place.values()], names)
    axes[0].set_ylim(min(place.values()) - 0.7, 0.7)
    return Drawing(
        fig,
        alt=f"A row per method: share of test prompts that change sides. {_said(scores, r)}",
        caption=(
            "Share of test prompts that change sides. Filled: the candidate that loses at most"
            f" {r['collateral_limit']:.0%} of the free validation prompts, with its 95 % interval over keys;"
            " hollow: the most successful one, whatever it costs. Dashed: another order of the words alone."
            " Grey band: up to the best random direction within the limit. An edit that can only remove"
            " has no mark on the right. *None*: no candidate is within the limit. *: the operator is known"
            " from an abstract alone."
        ),
        name="board",
    )


def _mark(ax, rows: pd.DataFrame, y: float, color: str) -> None:
    """Both choices of one method in one direction; a word where no candidate is within the limit."""
    of = rows.set_index("choice").astype({"success": float, "low": float, "high": float})
    kept, best, shape = of.loc["kept"], of.loc["max"], MARKER[of.kind.iloc[0]]
    ax.plot(best.success, y, shape, mfc="none", mec=color, ms=8)
    if np.isnan(kept.success):
        at = 0.0 if np.isnan(best.success) else best.success
        aside = {"ha": "left", "xytext": (8, 0)} if at < 0.5 else {"ha": "right", "xytext": (-8, 0)}
        ax.annotate("none", (at, y), textcoords="offset points", va="center", color=color, **aside)
        return
    ax.plot([kept.low, kept.high], [y, y], color=color, lw=1.5)
    ax.plot(kept.success, y, shape, color=color, ms=5.5)


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
    fig, axes = plt.subplots(len(DIRECTIONS), 2, figsize=(WIDTH, 7.6), sharey=True, sharex="col")
    shown = {d: scores[(scores.direction == d) & scores.success.notna()] for d in DIRECTIONS}
    for row, (direction, own) in zip(axes, shown.items()):
        for ax, cost in zip(row, COST):
            _marks(ax, own, direction, f"{cost}_lost")
            if cost == "free":
                ax.axvline(100 * r["collateral_limit"], color=COLOR["other"], ls="--", lw=1)
            ax.set_xscale("symlog", linthresh=5)
            ax.set_xticks([0, 5, 20, 100], ["0", "5", "20", "100"])
            ax.minorticks_off()
            share_axis(ax)
            ax.set_ylim(-0.08, 1.08)
        row[0].set_ylabel(f"change sides,\n{DIRECTION_NAME[direction]}")
    for row, own in zip(axes, shown.values()):  # when every panel has its limits
        for ax, cost in zip(row, COST):
            _numbers(ax, own, f"{cost}_lost")
    for ax, name in zip(axes[-1], COST.values()):
        ax.set_xlabel(f"{name}, points")
    marks = (("steering", "steers"), ("editing", "edits"), ("null", "neither"))
    handles = [plt.Line2D([], [], color="#444444", marker=MARKER[kind], ls="") for kind, _ in marks]
    fig.legend(handles, [text for _, text in marks], loc="outside lower center", ncols=3)
    return Drawing(
        fig,
        alt=(
            "Scatter plots: success of every method against the free prompts, and the keyed prompts, that it"
            f" loses. {_frontier_said(scores)}"
        ),
        caption=(
            "What success costs on test keys, numbered as in the table. Filled: the candidate within the"
            " limit on validation prompts, the dashed line; hollow: success alone; a thin line joins the"
            " two of one method. Where marks crowd, numbers of lower ones are left out."
            " Lost keyed prompts are what a removal is for, and the price of steering. Points to the left of"
            " zero answer more prompts rightly than the untouched model."
        ),
        name="frontier",
    )


def _marks(ax, own: pd.DataFrame, direction: str, cost: str) -> None:
    """The marks of every method in one panel, the two of one method joined."""
    for _, mine in own.groupby("method"):
        color = _color(mine.kind.iloc[0], direction)
        ax.plot(100 * mine[cost].astype(float), mine.success, color=color, lw=0.6, alpha=0.6)
        for one in mine.itertuples(index=False):
            filled = {"color": color} if one.choice == "kept" else {"mfc": "none", "mec": color}
            lost = 100 * float(getattr(one, cost))
            ax.plot(lost, one.success, MARKER[one.kind], ms=6, alpha=0.8, **filled)


def _numbers(ax, own: pd.DataFrame, cost: str) -> None:
    """The number of every method once, the most successful first, as far as there is room."""
    spots = own.assign(lost=100 * own[cost].astype(float), success=own.success.astype(float))
    taken = [_inches(ax, one.lost, one.success) for one in spots.itertuples()]
    named = spots.sort_values("choice").drop_duplicates("method")  # kept before max
    for one in named.sort_values("success", ascending=False).itertuples():
        mark = _inches(ax, one.lost, one.success)
        for x, y in BESIDE:
            place = mark + np.array([1.6 * x, y]) / 72  # the middle of the number
            others = [other for other in taken if not np.allclose(other, mark)]
            if all((abs(place - other) > CLEAR).any() for other in others):
                taken.append(place)
                side = "left" if x > 0 else "right" if x < 0 else "center"
                at = (one.lost, one.success)
                look = {"ha": side, "va": "center_baseline", "fontsize": SMALL}
                ax.annotate(one.number, at, xytext=(x, y), textcoords="offset points", **look)
                break


def _inches(ax, x: float, y: float) -> np.ndarray:
    """Where in its panel a point lies, about; the layout is not known before all is drawn."""
    return ax.transAxes.inverted().transform(ax.transData.transform((x, y))) * PANEL


def _frontier_said(scores: pd.DataFrame) -> str:
    kept = scores[(scores.choice == "kept") & scores.success.notna()]
    said = [
        f"{row.direction} {row.method}: success {_percent(row.success)}, free"
        f" {100 * row.free_lost:.0f} points, keyed {100 * row.keyed_lost:.0f} points"
        for row in kept.itertuples(index=False)
    ]
    return f"Within the limit, {'; '.join(said)}." if said else "Nothing is within the limit."
