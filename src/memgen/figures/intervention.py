"""Lab 06: the race, the controls, doses, and what is needed of the shift."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.patheffects import withStroke

from memgen.figures.style import (
    COLOR,
    CONTROL_NAME,
    DIRECTION_COLOR,
    PANEL_NAME,
    WIDTH,
    Drawing,
    share_axis,
)
from memgen.terms import BEHAVIORS, DIRECTIONS, SPARED


def _panels(height: float):
    """One panel per direction."""
    return plt.subplots(1, len(DIRECTIONS), figsize=(WIDTH, height), sharey=True)


def _share_with_numbers(ax, end: float = 1.32) -> None:
    """A horizontal axis from 0 to 100 % with room for a number behind a bar that fills it."""
    share_axis(ax, "x")
    ax.set(xlim=(-0.02, end), xticks=(0, 0.5, 1))


def grid_heatmaps(races: pd.DataFrame, r: dict) -> Drawing:
    """Success on validation keys; dots: not run on all prompts, crosses: loses more than may be lost.

    `r`: the result, whose chosen cells are boxed: `max` dashed, `kept` solid.
    """
    fig, axes = _panels(3.6)
    for ax, direction in zip(axes, DIRECTIONS):
        table = races[races.direction == direction]
        rate = table.expected / table.evaluated.max()

        def grid(values, table=table):
            return table.assign(v=values).pivot(index="top_n", columns="alpha", values="v")

        values, out = grid(rate), grid(table.out).astype(bool)
        early = grid(table.evaluated < table.evaluated.max()).astype(bool)
        image = ax.imshow(values, aspect="auto", cmap="viridis", vmin=0, vmax=1, origin="lower")
        for cell, style in (("max", "--"), ("kept", "-")):
            if r[direction][cell] is None:
                continue
            i = list(values.index).index(r[direction][cell]["top_n"])
            j = list(values.columns).index(r[direction][cell]["alpha"])
            out.iloc[i, j] &= cell == "max"  # which is crossed unless it is kept, too
            box = {"fill": False, "ec": "#D55E00", "lw": 2.5, "ls": style}
            ax.add_patch(plt.Rectangle((j - 0.5, i - 0.5), 1, 1, **box))
        for marks, sign in ((early & ~out, "·"), (out, "×")):
            for i, j in np.argwhere(marks.to_numpy()):
                text = ax.text(j, i, sign, ha="center", va="center", color="white", fontsize=12)
                text.set_path_effects([withStroke(linewidth=1.5, foreground="black")])
        ax.set(
            title=PANEL_NAME[direction],
            xlabel="alpha",
            xticks=range(values.shape[1]),
            xticklabels=[f"{a:g}" for a in values.columns],
            yticks=range(values.shape[0]),
            yticklabels=[f"{t:.0%}" for t in values.index],
        )
    axes[0].set_ylabel("top-N neurons")
    fig.colorbar(image, ax=axes, label="success", pad=0.01)
    return Drawing(
        fig,
        alt=(
            "Heatmaps of steering success on validation keys by alpha and top-N, one per direction;"
            f" chosen: {_chosen(r)}"
        ),
        caption=(
            "The race on validation keys. Dashed box: the most successful cell; solid box: the most"
            " successful of those that lose at most"
            f" {r['collateral_limit']:.0%} of the {_spared(r, ' and as many of the ')}. A cross marks a cell"
            " that was seen to lose more. A dot marks one that was not run on all prompts, because the best"
            " is hardly among them: its colour is what the rows that were run foretell."
        ),
        name="grid",
    )


def _spared(r: dict, between: str) -> str:
    """What a kept cell may lose hardly any of."""
    return between.join(words for kind, words in SPARED.items() if f"{kind}_rows" in r)


def _chosen(r: dict) -> str:
    """Both chosen cells of both directions in words."""
    said = []
    for d in DIRECTIONS:
        cells = {name: r[d][name] for name in ("max", "kept")}
        said += [
            f"{d} {name}: "
            + ("none" if x is None else f"top {x['top_n']:.0%}, alpha {x['alpha']:g}")
            for name, x in cells.items()
        ]
    return "; ".join(said)


def control_bars(controls: pd.DataFrame) -> Drawing:
    """Success and *other* of the chosen cell and of all it is held against, one row per control.

    Columns: direction, name, success, low, high, other, n. A control that does not exist has no bar.
    """
    tables = {d: controls[controls.direction == d] for d in DIRECTIONS}
    n_rows = max(map(len, tables.values()))
    fig, axes = plt.subplots(
        len(DIRECTIONS),
        2,
        figsize=(WIDTH, len(DIRECTIONS) * (1.0 + 0.27 * n_rows)),
        sharex="col",
        sharey="row",
        width_ratios=(3, 2),
    )
    for (left, right), (direction, table) in zip(axes, tables.items()):
        y = np.arange(len(table))[::-1]
        own = table.name.str.startswith("steered")
        colors = np.where(own, DIRECTION_COLOR[direction], COLOR["null"])
        success = table.success.fillna(0)
        error = np.clip([success - table.low, table.high - success], 0, None)
        left.barh(y, success, color=colors, xerr=np.nan_to_num(error), error_kw={"lw": 1})
        right.barh(y, table.other.fillna(0), color=COLOR["other"])
        for yi, row in zip(y, table.itertuples(index=False)):
            number = f"{_share(row.success)} (n={row.n:,})" if row.n else "none"
            at = {"va": "center", "fontsize": 8.5}
            left.text(np.nan_to_num(row.high) + 0.03, yi, number, **at)
            right.text(np.nan_to_num(row.other) + 0.03, yi, _share(row.other), **at)
        _share_with_numbers(left, 1.75)
        _share_with_numbers(right)
        left.margins(y=0.01)
        left.set_yticks(y, [CONTROL_NAME.get(n, n) for n in table.name], fontsize=10)
        left.set_title(f"{PANEL_NAME[direction]}")
        right.set_title("other")
    axes[-1][0].set_xlabel("change sides")
    axes[-1][1].set_xlabel("neither answer")
    listed = {
        d: ", ".join(
            f"{row.name} {_share(row.success)}, other {_share(row.other)}"
            for row in table.itertuples(index=False)
        )
        for d, table in tables.items()
    }
    return Drawing(
        fig,
        alt=(
            "Bars: share of test prompts that change sides, and share that is answered neither way,"
            " under the chosen cell and its controls. "
            + " ".join(f"{d}: {names}." for d, names in listed.items())
        ),
        caption=(
            "Left: prompts of test keys that change sides; right: those answered neither way. Top"
            f" neurons,{_rivals(controls)} controls at the output, shifts of the same size in the same"
            " layers, and what changing the words alone does. Lines: 95 % intervals, Wilson's, or over"
            " draws and keys where a control was drawn several times; n counts answers."
        ),
        name="controls",
    )


def _rivals(controls: pd.DataFrame) -> str:
    """What was run that chooses no neurons, for a caption."""
    if "family" not in controls or not (controls.family == "rival").any():
        return ""
    return (
        " rivals that choose no neurons (tuned on the same prompts, without a limit and within it),"
    )


def _share(value: float) -> str:
    return "none" if np.isnan(value) else f"{value:.0%}"


def two_cells(r: dict) -> Drawing:
    """Success and cost of both chosen cells on test keys, one panel per direction."""
    words = {
        "success": "change sides",
        "other": "other",
        "free_accuracy_after": "free right",
        "keyed_accuracy_after": "keyed right",
    }
    fig, axes = _panels(3.0)
    y, listed = np.arange(len(words))[::-1], []
    for ax, direction in zip(axes, DIRECTIONS):
        for offset, cell, alpha in ((0.2, "max", 0.45), (-0.2, "kept", 1.0)):
            found = r[direction][cell]
            listed.append(f"{direction} {cell}: " + (_costs(found, words) if found else "none"))
            if not found:
                continue
            values = [found[name] for name in words]
            ax.barh(
                y + offset, values, 0.38, color=DIRECTION_COLOR[direction], alpha=alpha, label=cell
            )
            for yi, value in zip(y, values):
                ax.text(1.05, yi + offset, f"{value:.0%}", va="center", fontsize=9)
        before = [r[direction][f"{kind}_accuracy_before"] for kind in ("free", "keyed")]
        ax.vlines(before, y[2:] - 0.42, y[2:] + 0.42, color="black", lw=1.5, label="unsteered")
        ax.set(title=PANEL_NAME[direction])
        ax.set_yticks(y, list(words.values()))
        _share_with_numbers(ax)
    drawn = [dict(zip(*reversed(ax.get_legend_handles_labels()))) for ax in axes]
    named = drawn[1] | drawn[0]  # a direction without a kept cell has no bar for it
    fig.legend(named.values(), named, loc="outside lower center", ncols=3)
    return Drawing(
        fig,
        alt="Bars: what both chosen cells turn and cost on test keys. " + "; ".join(listed) + ".",
        caption=(
            "The most successful cell (`max`, pale) and the most successful one within the limit on"
            f" {_spared(r, ' and on ')} (`kept`), both chosen on validation keys and scored here on test"
            " keys: what"
            " turns, what is answered neither way, and how many free and keyed prompts stay right. The"
            " line is the unsteered model."
        ),
        name="cells",
    )


def _costs(found: dict, words: dict[str, str]) -> str:
    return ", ".join(f"{word} {found[name]:.0%}" for name, word in words.items())


def dose_response(table: pd.DataFrame) -> Drawing:
    """Behaviour against alpha: steered (solid) and the same on random neurons (dotted).

    Columns: direction, kind ('steered' or 'random'), alpha, memorization, generalization, other.
    """
    fig, axes = _panels(3.6)
    for ax, direction in zip(axes, DIRECTIONS):
        for kind, style in (("steered", "-"), ("random", ":")):
            rows = table[(table.direction == direction) & (table.kind == kind)]
            for behavior in BEHAVIORS:
                ax.plot(
                    rows.alpha,
                    rows[behavior],
                    style,
                    color=COLOR[behavior],
                    marker="." if kind == "steered" else "",
                    label=f"{behavior}{'' if kind == 'steered' else ', random neurons'}",
                )
        ax.set(title=PANEL_NAME[direction], xlabel="alpha (multiples of NMD)")
        share_axis(ax)
    axes[0].set_ylabel("share of answers")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return Drawing(
        fig,
        alt=(
            "Shares of memorization, generalization and other answers on test prompts against alpha,"
            " for the top neurons and for random neurons in the same layers, one panel per direction"
        ),
        caption=(
            "Dose and response on test keys at the chosen top-N. Solid: top neurons; dotted: the same"
            f" shift on random neurons, one permutation in all layers. {table.n.min()} to"
            f" {table.n.max()} prompts a point."
        ),
        name="dose",
    )
