"""The chapter on pretrained models: behaviours, the depth of the model, steering, and what it costs.

Every function takes `seeds` as `data/reference/real/<model>.json` holds them: one entry per data set. All
seeds ask one model, so a spread over them is one of facts, wordings and splits.
"""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

from memgen.figures.style import (
    COLOR,
    CONTROL_NAME,
    DIRECTION_COLOR,
    WIDTH,
    Drawing,
    share_axis,
)
from memgen.terms import (
    BEHAVIORS,
    DIRECTIONS,
    ONE_LAYER,
    ONE_LAYER_KEPT,
    OPTIMISED,
    OPTIMISED_KEPT,
    TARGET,
)

Seeds = list[dict[str, Any]]
#: memory and rule as this task has them
SHOWN = {"memorization": "what it knows", "generalization": "what the text says", "other": "other"}
TOWARDS = {"m2g": "towards the text", "g2m": "towards what it knows"}
#: the families of bars from top to bottom: what is tested, what needs no neurons, what is a control
FAMILIES = ("steered", "rival", "floor", "shift", "output")
COSTS = {"free": "made-up entities right", "keyed": "plain facts right", "page": "perplexity"}
MARKS = {"steered": "o", "steered_max": "^", ONE_LAYER: "s", ONE_LAYER_KEPT: "D"}
MARKS |= {OPTIMISED: "X", OPTIMISED_KEPT: "P"}
BOTH = "keys with both"


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _spread(ax, x: float, values: list[dict[str, Any]], color: str) -> None:
    """Rates with their intervals side by side around `x`, one mark per seed."""
    places = x + 0.16 * (np.arange(len(values)) - (len(values) - 1) / 2)
    for place, one in zip(places, values):
        ax.vlines(place, _number(one["low"]), _number(one["high"]), color=color, lw=1.4)
        ax.plot(place, one["rate"], "o", color=color, ms=6)


def behaviours(seeds: Seeds) -> Drawing:
    """Shares of conflict prompts of test keys by behaviour, a mark per data set; keys with both."""
    fig, ax = plt.subplots(figsize=(WIDTH, 2.9))
    found = {name: [one["behaviours"][name] for one in seeds] for name in BEHAVIORS}
    for x, name in enumerate(BEHAVIORS):
        _spread(ax, x, found[name], COLOR[name])
    both = [one["keys_with_both"] for one in seeds]
    marks = [{"rate": share, "low": share, "high": share} for share in both]
    _spread(ax, len(BEHAVIORS), marks, "#009E73")
    labels = [SHOWN[name].replace(" ", "\n", 1) for name in BEHAVIORS]
    ax.set_xticks(range(len(BEHAVIORS) + 1), [*labels, BOTH.replace(" ", "\n", 1)])
    ax.set(ylabel="share", xlim=(-0.5, len(BEHAVIORS) + 0.5))
    ax.axvline(len(BEHAVIORS) - 0.5, color="#CCCCCC", lw=1)
    share_axis(ax)
    listed = "; ".join(
        f"{SHOWN[name]} {_list([one['rate'] for one in values])}" for name, values in found.items()
    )
    n = ", ".join(str(one["behaviours"]["n"]) for one in seeds)
    keys = ", ".join(str(one["n_test_keys"]) for one in seeds)
    return Drawing(
        fig,
        alt=(
            "Dots with intervals: what decides the answers to conflict prompts of test keys, one dot per"
            f" data set: {listed}; {BOTH} {_list(both)}"
        ),
        caption=(
            f"Conflict prompts of test keys (n = {n}; {keys} keys), a mark per data set, with 95 % intervals"
            " over keys. Right of the line: the share of keys that are answered in both ways."
        ),
        name="behaviours",
    )


def along_depth(seeds: Seeds) -> Drawing:
    """Three panels over the layers: significant neurons with nulls, probe, relative size of NMD.

    Thin lines: data sets, thick: their mean. Marks on the axis of the last panel: the layers whose mean
    difference alone was the best on validation keys.
    """
    table = _by_layer(seeds)
    mean = table.groupby("layer").mean(numeric_only=True)
    fig, axes = plt.subplots(3, 1, figsize=(WIDTH, 6.6), sharex=True)
    blue, grey, green = COLOR["generalization"], COLOR["control"], "#009E73"
    _lines(axes[0], table, "significant", blue, "flip pairs", "-")
    _lines(axes[0], table, "null", grey, "null: answered alike", "--")
    _lines(axes[0], table, "oriented_null", grey, "null: the same, turned by the words", ":")
    axes[0].set_title("share of neurons that differ")
    axes[0].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    _lines(axes[1], table, "auc", blue, "probe, test keys", "-")
    axes[1].fill_between(mean.index, mean.auc_low, mean.auc_high, color=blue, alpha=0.15, lw=0)
    rival = float(np.nanmean([_number(s["prediction"]["chosen_baseline_auc"]) for s in seeds]))
    axes[1].axhline(rival, color=grey, ls="--", lw=1.2, label="strongest forecast without states")
    axes[1].set_title("AUC: which behaviour comes")
    _lines(axes[2], table, "nmd_relative", green, "NMD", "-")
    axes[2].set_title("mean difference, in units of the layer's state")
    chosen = {d: _chosen_layers(seeds, d) for d in DIRECTIONS}
    axes[2].set(xlabel="layer", ylim=(min(0.0, table.nmd_relative.min()), None))
    for direction, marker, height in zip(DIRECTIONS, "^v", (0.05, 0.2)):
        label = f"best single layer, {TOWARDS[direction]}"
        y = np.full(len(chosen[direction]), height)  # of the panel: they have no value of their own
        at = {"transform": axes[2].get_xaxis_transform(), "color": DIRECTION_COLOR[direction]}
        axes[2].plot(chosen[direction], y, marker, ms=8, label=label, **at)
    top = table[["significant", "null", "oriented_null"]].max().max()
    axes[0].set_ylim(-0.04 * top, 1.6 * top or 1)  # room for the legend
    for ax, place in zip(axes, ("upper left", "lower right", "upper left")):
        ax.legend(fontsize=9, loc=place, handlelength=1.6)
    peaks = {name: int(mean[name].idxmax()) for name in ("significant", "auc", "nmd_relative")}
    return Drawing(
        fig,
        alt=(
            f"Three curves over {len(mean)} layers, means over data sets ({len(seeds)}). Neurons that differ:"
            f" at most {mean.significant.max():.0%} in layer {peaks['significant']}; where the behaviour"
            f" stays at most {mean['null'].max():.0%}, turned by the words at most"
            f" {mean.oriented_null.max():.0%}. AUC of the probe: at most {mean.auc.max():.2f} in layer"
            f" {peaks['auc']}, strongest forecast without states {rival:.2f}. Relative mean difference:"
            f" largest in layer {peaks['nmd_relative']}. Best single layers:"
            + "; ".join(f" {TOWARDS[d]} {_list(layers, '.0f')}" for d, layers in chosen.items())
        ),
        caption=(
            "Along the depth of the model; thin lines: data sets, thick ones: their mean. Top: train keys."
            " Middle: test keys, shaded the mean 95 % interval over keys. Bottom: train keys; the triangles"
            " are the layers whose mean difference alone turned most validation prompts."
        ),
        name="depth",
    )


def _by_layer(seeds: Seeds) -> pd.DataFrame:
    rows = [{"seed": one["seed"], **layer} for one in seeds for layer in one["layers"]]
    table = pd.DataFrame(rows)
    return table.astype({name: float for name in table if name not in ("seed", "layer")})


def _lines(ax, table: pd.DataFrame, name: str, color: str, label: str, style: str) -> None:
    for _, rows in table.groupby("seed"):
        ax.plot(rows.layer, rows[name], style, color=color, lw=0.8, alpha=0.5)
    mean = table.groupby("layer")[name].mean()
    ax.plot(mean.index, mean, style, color=color, lw=2.2, label=label)


def _chosen_layers(seeds: Seeds, direction: str) -> list[int]:
    found = [one["steering"][direction]["shifts"].get(ONE_LAYER, {}) for one in seeds]
    return [one["layer"] for one in found if "layer" in one]


def bars_of(seeds: Seeds, direction: str) -> pd.DataFrame:
    """A row per bar, in the order of `FAMILIES`: means over data sets of success and *other*, n summed.

    Columns: name, family, success, other, n, seeds (list of the seeds' own bars). What no seed has is left
    out.
    """
    by_name: dict[str, list[dict[str, Any]]] = {}
    for one in seeds:
        for bar in one["steering"][direction]["bars"]:
            if bar["success"] is not None:
                by_name.setdefault(bar["name"], []).append(bar)
    rows = [
        {
            "name": name,
            "family": bars[0]["family"],
            "success": float(np.mean([bar["success"] for bar in bars])),
            "other": float(np.nanmean([_number(bar["other"]) for bar in bars])),
            "n": sum(bar["n"] for bar in bars),
            "seeds": bars,
        }
        for name, bars in by_name.items()
    ]
    rows.sort(key=lambda row: FAMILIES.index(row["family"]))
    return pd.DataFrame(rows)


def steering(seeds: Seeds) -> Drawing:
    """Per direction a row per way to turn an answer: target and *other* stacked, a dot per data set."""
    tables = {d: bars_of(seeds, d) for d in DIRECTIONS}
    heights = [len(table) for table in tables.values()]
    fig, axes = plt.subplots(
        2,
        1,
        figsize=(WIDTH, 1.6 + 0.27 * sum(heights)),
        sharex=True,
        height_ratios=heights,
    )
    for ax, (direction, table) in zip(axes, tables.items()):
        y = np.arange(len(table))[::-1]
        color = COLOR[BEHAVIORS[TARGET[direction]]]
        ax.barh(
            y, table.success, color=color, alpha=0.75, label=SHOWN[BEHAVIORS[TARGET[direction]]]
        )
        ax.barh(y, table.other, left=table.success, color=COLOR["null"], label="other")
        for yi, row in zip(y, table.itertuples(index=False)):
            for i, bar in enumerate(row.seeds):
                at = yi + 0.22 * (i - (len(row.seeds) - 1) / 2)
                ends = (_number(bar["low"]), _number(bar["high"]))
                ax.hlines(at, *ends, color="black", lw=0.9)
                ax.plot(bar["success"], at, "o", color="black", ms=2.6)
            ax.text(1.03, yi, f"{row.success:.0%}, n={row.n:,}", va="center", fontsize=8.5)
        share_axis(ax, "x")
        ax.set(xlim=(0, 1.42), xticks=(0, 0.5, 1))
        ax.margins(y=0.01)
        ax.set_yticks(y, [CONTROL_NAME.get(n, n) for n in table.name], fontsize=10)
        ax.set_title(TOWARDS[direction])
    axes[-1].set_xlabel("of prompts that were answered the other way")
    handles = [axes[0].containers[0], axes[1].containers[0], axes[0].containers[1]]
    labels = [*(SHOWN[BEHAVIORS[TARGET[d]]] for d in DIRECTIONS), "other"]
    fig.legend(handles, labels, loc="outside upper center", ncols=3)
    listed = {
        d: ", ".join(
            f"{CONTROL_NAME.get(row.name, row.name)} {row.success:.0%} (other {row.other:.0%})"
            for row in table.itertuples(index=False)
        )
        for d, table in tables.items()
    }
    return Drawing(
        fig,
        alt="Stacked bars, means over data sets. "
        + ". ".join(f"{TOWARDS[d]}: {text}" for d, text in listed.items()),
        caption=(
            "Test keys. Colour: the answer is the one that was aimed at; grey: neither answer; the rest"
            " stayed. Bars are means over the data sets, black dots the data sets with their 95 % intervals"
            " (Wilson's; of several draws: over draws and keys). From the top: shifts of chosen neurons; what"
            " chooses no neurons, an instruction in words and one layer's mean difference; rephrasing alone;"
            " shifts of the same size; the output alone."
        ),
        name="steering",
    )


def costs(seeds: Seeds) -> Drawing:
    """Success against what is lost elsewhere, a mark per shift and data set, a colour per direction."""
    rows = cost_rows(seeds)
    fig, axes = plt.subplots(1, 3, figsize=(WIDTH, 3.2), sharey=True)
    for ax, (name, title) in zip(axes, COSTS.items()):
        for row in rows.itertuples(index=False):
            color, value = DIRECTION_COLOR[row.direction], getattr(row, name)
            ax.plot(value, row.success, MARKS[row.shift], color=color, ms=6, alpha=0.8)
        ax.axvline(1 if name == "page" else 0, color="#CCCCCC", lw=1, zorder=0)
        ax.set_title(title, fontsize=11)
        ax.set_xlabel("times" if name == "page" else "change, points", fontsize=10)
        ax.tick_params(labelsize=10)
    axes[2].set_xscale("log")
    axes[2].xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
    axes[2].xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes[2].xaxis.set_minor_formatter(NullFormatter())
    share_axis(axes[0])
    axes[0].set_ylabel("answers turned")
    for direction in DIRECTIONS:
        color, label = DIRECTION_COLOR[direction], TOWARDS[direction]
        axes[0].plot([], [], "-", color=color, lw=4, label=label)
    for shift in dict.fromkeys(rows["shift"]):
        label = CONTROL_NAME.get(shift, shift)
        axes[0].plot([], [], MARKS[shift], color="#555555", ls="none", label=label)
    fig.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9
    )
    return Drawing(
        fig,
        alt="Dots: share of answers turned against what is lost elsewhere, means over data sets. "
        + "; ".join(
            _cost_in_words(part) for _, part in rows.groupby(["direction", "shift"], sort=False)
        ),
        caption=(
            "What a shift turns, against what it does where nothing should change: prompts about made-up"
            " entities, plain facts without a text, and a page of prose (perplexity with the shift, as a"
            " multiple of that without). A mark per data set; the grey line: nothing lost. *No limit* is the"
            " cell that turned most on validation keys, whatever it cost; where it is missing, both are one."
            " A vector *in limit* was chosen among those that lose hardly anything there."
        ),
        name="costs",
    )


def cost_rows(seeds: Seeds) -> pd.DataFrame:
    """A row per direction, shift and seed: success, points of accuracy gained (below 0: lost), and the
    ratio of perplexities (NaN where no page was read).
    """
    rows = []
    for one in seeds:
        for direction in DIRECTIONS:
            found = one["steering"][direction]
            bars = {bar["name"]: bar["success"] for bar in found["bars"]}
            for shift, of in found["shifts"].items():
                same = shift == "steered_max" and not found["kept_exists"]
                if shift not in MARKS or same:  # then the two cells are one
                    continue
                rows.append(
                    {"seed": one["seed"], "direction": direction, "shift": shift}
                    | {"success": bars[shift], **_change(of)}
                )
    return pd.DataFrame(rows)


def _change(of: dict[str, Any]) -> dict[str, float]:
    points = {
        name: 100 * (of[f"{name}_accuracy_after"] - of[f"{name}_accuracy_before"])
        for name in ("free", "keyed")
    }
    before = _number(of.get("perplexity_before"))
    return points | {"page": _number(of.get("perplexity_after")) / before}


def _cost_in_words(part: pd.DataFrame) -> str:
    mean, first = part.mean(numeric_only=True), part.iloc[0]
    return (
        f"{TOWARDS[first.direction]}, {CONTROL_NAME.get(first['shift'], first['shift'])}: turned"
        f" {mean.success:.0%}, made-up entities {mean.free:+.0f} points, plain facts {mean.keyed:+.0f}"
        f" points, perplexity times {mean.page:.2f}"
    )


def _list(values: list, form: str = ".0%") -> str:
    return ", ".join(format(value, form) for value in values) or "none"
