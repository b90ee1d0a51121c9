"""Lab 06: the race, the controls, doses, and what is needed of the shift."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import NullLocator

from memgen.figures.style import (
    COLOR,
    CONTROL_NAME,
    DIRECTION_COLOR,
    DIRECTION_NAME,
    PANEL_NAME,
    SHARE_MAP,
    SMALL,
    WIDTH,
    Drawing,
    say_ends,
    share_axis,
)
from memgen.terms import BEHAVIORS, DIRECTIONS, SPARED, TARGET

BROKEN = {"hatch": "////", "facecolor": "none", "edgecolor": "#888888", "lw": 0}
#: the two chosen cells: style of their box on the map, of their line along the doses
CELL_LINE = {"max": "--", "kept": "-"}


def _panels(height: float):
    """One panel per direction."""
    return plt.subplots(1, len(DIRECTIONS), figsize=(WIDTH, height), sharey=True)


def _share_with_numbers(ax, end: float = 1.32) -> None:
    """A horizontal axis from 0 to 100 % with room for a number behind a bar that fills it."""
    share_axis(ax, "x")
    ax.set(xlim=(-0.02, end), xticks=(0, 0.5, 1))


def grid_heatmaps(races: pd.DataFrame, r: dict) -> Drawing:
    """Success on validation keys, a panel per direction; hatched: loses more than may be lost.

    `r`: the result, whose chosen cells are boxed: `max` dashed, `kept` solid.
    """
    fig, axes = plt.subplots(len(DIRECTIONS), 1, figsize=(WIDTH, 5.6), sharex=True)
    broken = {}
    for ax, direction in zip(axes, DIRECTIONS):
        table = races[races.direction == direction]
        rate = table.expected / table.evaluated.max()

        def grid(values, table=table):
            return table.assign(v=values).pivot(index="top_n", columns="alpha", values="v")

        values, out = grid(rate), grid(table.out).astype(bool)
        image = ax.imshow(values, aspect="auto", cmap=SHARE_MAP, vmin=0, vmax=1, origin="lower")
        broken[direction] = f"{int(out.to_numpy().sum())} of {out.size}"
        for cell, style in CELL_LINE.items():
            if r[direction][cell] is None:
                continue
            i = list(values.index).index(r[direction][cell]["top_n"])
            j = list(values.columns).index(r[direction][cell]["alpha"])
            out.iloc[i, j] &= cell == "max"  # which is hatched unless it is kept, too
            box = {"fill": False, "ec": "black", "lw": 2.5, "ls": style, "zorder": 3}
            ax.add_patch(plt.Rectangle((j - 0.5, i - 0.5), 1, 1, **box))
        for i, j in np.argwhere(out.to_numpy()):
            ax.add_patch(plt.Rectangle((j - 0.5, i - 0.5), 1, 1, **BROKEN))
        ax.set(
            title=DIRECTION_NAME[direction],
            ylabel="top-N neurons",
            xticks=range(values.shape[1]),
            xticklabels=[f"{a:g}" for a in values.columns],
            yticks=range(values.shape[0]),
            yticklabels=[f"{t:.0%}" for t in values.index],
        )
    axes[-1].set_xlabel("alpha (multiples of NMD)")
    box = {"fill": False, "ec": "black", "lw": 2}
    handles = [plt.Rectangle((0, 0), 1, 1, ls=style, **box) for style in CELL_LINE.values()]
    handles.append(plt.Rectangle((0, 0), 1, 1, **BROKEN))
    names = ["chosen: most success", "chosen: within the limit", "broken: loses more"]
    fig.legend(handles, names, loc="outside upper left", ncols=2)
    say_ends(fig, image, axes, "no answer turns", "all turn", ticks=[0, 1], format="{x:.0%}")
    return Drawing(
        fig,
        alt=(
            "Heatmaps of steering success on validation keys by alpha and top-N, one per direction;"
            f" chosen: {_chosen(r)}; cells that lose more than may be lost: "
            + ", ".join(f"{d} {count}" for d, count in broken.items())
        ),
        caption=(
            "The race on validation keys. Dashed box: the most successful cell; solid box: the most"
            " successful of those that lose at most"
            f" {r['collateral_limit']:.0%} of the {_spared(r, ' and as many of the ')}. Hatched: seen to"
            " lose more, so the model is broken there for this purpose. Cells that are hardly the best are"
            " not run on all prompts: their colour is what the rows that were run predict."
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
            number = f"{_share(row.success)} ({row.n:,})" if row.n else "none"
            at = {"va": "center", "fontsize": SMALL}
            left.text(np.nan_to_num(row.high) + 0.03, yi, number, **at)
            right.text(np.nan_to_num(row.other) + 0.03, yi, _share(row.other), **at)
        _share_with_numbers(left, 1.95)
        _share_with_numbers(right, 1.55)
        left.margins(y=0.01)
        left.set_yticks(y, [CONTROL_NAME.get(n, n) for n in table.name], fontsize=SMALL)
        left.set_title(f"{PANEL_NAME[direction]}")
        right.set_title("other")
    axes[-1][0].set_xlabel("change sides (n)")
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
            " draws and keys where a control was drawn several times; in brackets n, which counts answers."
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
                ax.text(1.05, yi + offset, f"{value:.0%}", va="center", fontsize=SMALL)
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


def dose_response(table: pd.DataFrame, r: dict) -> Drawing:
    """Behaviour against alpha, by doublings: the top neurons, and the target alone on random ones.

    Columns: direction, kind ('steered' or 'random'), alpha, memorization, generalization, other. `r`: the
    result, whose chosen alphas are marked: `max` dashed, `kept` solid. The axis ends at the first alpha
    from which on nothing but *other* is left under either shift.
    """
    fig, axes = plt.subplots(len(DIRECTIONS), 1, figsize=(WIDTH, 6.4), sharex=True)
    end, last, least = _all_broken(table), table.alpha.max(), table.alpha[table.alpha > 0].min()
    table = table[table.alpha <= end]
    for ax, direction in zip(axes, DIRECTIONS):
        rows = table[table.direction == direction].sort_values("alpha")
        steered, random = (rows[rows.kind == kind] for kind in ("steered", "random"))
        for behavior in BEHAVIORS:
            look = {"color": COLOR[behavior], "marker": ".", "label": behavior}
            ax.plot(steered.alpha, steered[behavior], **look)
        target = BEHAVIORS[TARGET[direction]]
        ax.plot(random.alpha, random[target], ":", color=COLOR[target], lw=2)
        for cell, style in CELL_LINE.items():
            if r[direction][cell] is not None:
                ax.axvline(r[direction][cell]["alpha"], color="black", lw=1, ls=style, zorder=0)
        ax.set_xscale("symlog", base=2, linthresh=least, linscale=0.7)
        ticks = [
            alpha
            for alpha in sorted(set(table.alpha))
            if alpha in (0, end) or _doubled(alpha, least)
        ]
        ax.set_xticks(ticks, [f"{alpha:g}" for alpha in ticks])
        ax.xaxis.set_minor_locator(NullLocator())
        ax.set(title=DIRECTION_NAME[direction], ylabel="share of answers")
        share_axis(ax)
    axes[-1].set_xlabel("alpha (multiples of NMD), by doublings")
    handles = axes[0].get_legend_handles_labels()[0]
    handles += [plt.Line2D([], [], color="#555555", ls=":", lw=2)]
    handles += [plt.Line2D([], [], color="black", ls=style, lw=1) for style in ("-", "--")]
    names = [
        *BEHAVIORS,
        "target, random neurons",
        "chosen, within the limit",
        "chosen, most success",
    ]
    fig.legend(handles, names, loc="outside lower center", ncols=2)
    said = "; ".join(_dose_in_words(table, direction) for direction in DIRECTIONS)
    return Drawing(
        fig,
        alt=(
            "Shares of memorization, generalization and other answers on test prompts against alpha for the"
            " top neurons, and of the answers aimed at for random neurons in the same layers, a panel per"
            f" direction. {said}. Chosen: {_chosen(r)}"
        ),
        caption=(
            "Dose and response on test keys at the chosen top-N, alpha by doublings. Solid: top neurons;"
            " dotted: the answer aimed at, after the same shift on random neurons, one permutation in all"
            " layers. Upright lines: the alphas that were chosen on validation keys (the one with the most"
            f" success may belong to another top-N). n = {_one_or_both(table.n)} prompts a point."
            + (
                f" Beyond alpha {end:g} every answer is *other*, which is not drawn."
                * bool(end < last)
            )
        ),
        name="dose",
    )


def _doubled(alpha: float, least: float) -> bool:
    """Is `alpha` the least dose times a power of two?"""
    return alpha > 0 and float(np.log2(alpha / least)).is_integer()


def _all_broken(table: pd.DataFrame) -> float:
    """The first alpha from which on every shift leaves nothing but *other*; the last one, if none does."""
    worst = table.groupby("alpha").other.min().sort_index()
    whole = worst[::-1].cummin()[::-1] >= 0.995
    return float(whole.index[whole][0] if whole.any() else worst.index[-1])


def _dose_in_words(table: pd.DataFrame, direction: str) -> str:
    target = BEHAVIORS[TARGET[direction]]
    of = table[table.direction == direction].sort_values("alpha")
    said = [
        f"{kind} " + ", ".join(f"{share:.0%}" for share in of[of.kind == kind][target])
        for kind in ("steered", "random")
    ]
    doses = ", ".join(f"{alpha:g}" for alpha in dict.fromkeys(of.alpha))
    return f"{direction}, {target} at alpha {doses}: {'; '.join(said)}"


def _one_or_both(counts: pd.Series) -> str:
    """The least and the largest count, once if they are one."""
    return " to ".join(f"{n:,}" for n in dict.fromkeys((counts.min(), counts.max())))
