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
    SHARE_MAP,
    SMALL,
    WIDTH,
    Drawing,
    on_share,
    say_ends,
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
            _points_lost(ax)
        row[0].set_ylabel(f"change sides,\n{DIRECTION_NAME[direction]}")
    for row, own in zip(axes, shown.values()):  # when every panel has its limits
        for ax, cost in zip(row, COST):
            _numbers(ax, own, f"{cost}_lost", PANEL)
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


def _points_lost(ax) -> None:
    """Success upwards; points of accuracy lost to the right, few of them far apart."""
    ax.set_xscale("symlog", linthresh=5)
    ax.set_xticks([0, 5, 20, 100], ["0", "5", "20", "100"])
    ax.minorticks_off()
    share_axis(ax)
    ax.set_ylim(-0.08, 1.08)


def _marks(ax, own: pd.DataFrame, direction: str, cost: str) -> None:
    """The marks of every method in one panel, the two of one method joined."""
    for _, mine in own.groupby("method"):
        color = _color(mine.kind.iloc[0], direction)
        ax.plot(100 * mine[cost].astype(float), mine.success, color=color, lw=0.6, alpha=0.6)
        for one in mine.itertuples(index=False):
            filled = {"color": color} if one.choice == "kept" else {"mfc": "none", "mec": color}
            lost = 100 * float(getattr(one, cost))
            ax.plot(lost, one.success, MARKER[one.kind], ms=6, alpha=0.8, **filled)


def _numbers(ax, own: pd.DataFrame, cost: str, panel: tuple[float, float]) -> None:
    """The number of every method once, the most successful first, as far as there is room.

    `panel`: the size of the panel in inches, about.
    """
    spots = own.assign(lost=100 * own[cost].astype(float), success=own.success.astype(float))

    def inches(one) -> np.ndarray:
        """Where in its panel a mark lies, about; the layout is not known before all is drawn."""
        return (
            ax.transAxes.inverted().transform(ax.transData.transform((one.lost, one.success)))
            * panel
        )

    taken = [inches(one) for one in spots.itertuples()]
    named = spots.sort_values("choice").drop_duplicates("method")  # kept before max
    for one in named.sort_values("success", ascending=False).itertuples():
        mark, so_far = inches(one), np.array(taken)
        others = so_far[~np.isclose(so_far, mark).all(axis=1)]
        for x, y in BESIDE:
            place = mark + np.array([1.6 * x, y]) / 72  # the middle of the number
            if (abs(place - others) > CLEAR).any(axis=1).all():
                taken.append(place)
                side = "left" if x > 0 else "right" if x < 0 else "center"
                at = (one.lost, one.success)
                look = {"ha": side, "va": "center_baseline", "fontsize": SMALL}
                ax.annotate(one.number, at, xytext=(x, y), textcoords="offset points", **look)
                break


def _frontier_said(scores: pd.DataFrame) -> str:
    kept = scores[(scores.choice == "kept") & scores.success.notna()]
    said = [
        f"{row.direction} {row.method}: success {_percent(row.success)}, free"
        f" {100 * row.free_lost:.0f} points, keyed {100 * row.keyed_lost:.0f} points"
        for row in kept.itertuples(index=False)
    ]
    return f"Within the limit, {'; '.join(said)}." if said else "Nothing is within the limit."


def every_method(table: pd.DataFrame) -> Drawing:
    """Success within the limit of all methods on all tasks, mean over seeds, as a map of numbers.

    `table`: as `data/reference/rivals/results.csv`, one track. A seed with nothing within the limit counts as
    turning nothing.
    """
    kept = table[table.choice == "kept"].fillna({"success": 0.0})
    methods, tasks = _rows(table), list(table.task.unique())
    names = [f"{row.title} ({row.number})" for row in methods.itertuples()]
    fig, axes = plt.subplots(
        1, len(DIRECTIONS), figsize=(WIDTH, 1.9 + 0.24 * len(methods)), sharey=True
    )
    for ax, direction in zip(axes, DIRECTIONS):
        own = kept[kept.direction == direction]
        means = own.pivot_table(index="method", columns="task", values="success", aggfunc="mean")
        shares = means.reindex(index=methods.method, columns=tasks).to_numpy(float)
        image = ax.imshow(shares, cmap=SHARE_MAP, vmin=0, vmax=1, aspect="auto")
        for (y, x), share in np.ndenumerate(shares):
            said, color = (
                ("·", "black") if np.isnan(share) else (f"{100 * share:.0f}", on_share(share))
            )
            ax.text(x, y, said, ha="center", va="center", fontsize=SMALL, color=color)
        ax.set_title(PANEL_NAME[direction])
        ax.set_xticks(range(len(tasks)), tasks, rotation=90)
        ax.set_yticks(range(len(names)), names)
        ax.tick_params(length=0)
    say_ends(
        fig, image, axes, "no prompt turns", "all turn", ticks=[0, 1], format="{x:.0%}", aspect=60
    )
    return Drawing(
        fig,
        alt=(
            "Two maps, a row per method and a column per task: per cent of test prompts that change sides"
            f" within the limit. {_every_said(kept, methods)}"
        ),
        caption=(
            "Per cent of test prompts that change sides, within the limit on lost free prompts, mean over"
            " seeds. A dot: the method has no such direction, or does not apply to the task. Patching counts"
            " a prompt without a donor as not turned."
        ),
        name="every_method",
    )


def _every_said(kept: pd.DataFrame, methods: pd.DataFrame) -> str:
    means = kept.groupby(["method", "direction", "task"]).success.mean()
    said = []
    for row in methods.itertuples():
        of_method = means[row.method]
        parts = [
            f"{d} {', '.join(f'{task} {_percent(x)}' for task, x in of_method[d].items())}"
            for d in DIRECTIONS
            if d in of_method
        ]
        said.append(f"{row.title}: {'; '.join(parts)}")
    return ". ".join(said) + "."


def every_cost(table: pd.DataFrame) -> Drawing:
    """Success against the free prompts lost, all methods, a row of panels per task, mean over seeds.

    `table`: as of `every_method`.
    """
    within = table.choice == "kept"  # nothing within the limit: nothing turns, nothing is lost
    both = ["success", "free_lost"]
    filled = table.assign(
        **{name: table[name].mask(within, table[name].fillna(0)) for name in both}
    )
    about = ["task", "direction", "method", "kind", "number", "choice"]
    means = filled.groupby(about, sort=False)[both].mean().reset_index()
    tasks = list(table.task.unique())
    size = (WIDTH, 0.8 + 2.1 * len(tasks))
    fig, grid = plt.subplots(len(tasks), 2, figsize=size, sharey=True, sharex=True, squeeze=False)
    shown = []
    for row, task in zip(grid, tasks):
        for ax, direction in zip(row, DIRECTIONS):
            own = means[
                (means.task == task) & (means.direction == direction) & means.success.notna()
            ]
            _marks(ax, own, direction, "free_lost")
            _points_lost(ax)
            shown.append((ax, own))
        row[0].set_ylabel(task)
    for ax, own in shown:  # when every panel has its limits
        _numbers(ax, own, "free_lost", (2.4, 1.8))
    for ax, direction in zip(grid[0], DIRECTIONS):
        ax.set_title(PANEL_NAME[direction])
    for ax in grid[-1]:
        ax.set_xlabel(f"{COST['free']}, points")
    return Drawing(
        fig,
        alt=(
            "Scatter plots, a row per task: success of every method against the free prompts that it loses,"
            f" within the limit and by success alone, the two joined. {_cost_said(means)}"
        ),
        caption=(
            "What success costs, mean over seeds, numbered as in the map above. Filled: within the limit;"
            " hollow: success alone; a thin line joins the two of one method. Squares edit, circles steer,"
            " diamonds do neither. Where marks crowd, numbers of lower ones are left out."
        ),
        name="every_cost",
    )


def _cost_said(means: pd.DataFrame) -> str:
    """By task and direction the most successful method within the limit, and by success alone."""
    said = []
    own = means[means.success.notna() & (means.kind != "null")]
    for (task, direction), rows in own.groupby(["task", "direction"], sort=False):
        best = rows.sort_values("success", ascending=False).drop_duplicates("choice")
        parts = [
            f"{'within the limit' if one.choice == 'kept' else 'by success alone'} {one.method}"
            f" {_percent(one.success)} at {100 * one.free_lost:.0f} points"
            for one in best.sort_values("choice").itertuples()
        ]
        said.append(f"{task} {direction}: {', '.join(parts)}")
    return f"The most successful. {'. '.join(said)}." if said else ""
