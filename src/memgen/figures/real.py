"""The chapter on pretrained models: behaviours, steering, and what it costs.

A figure shows all models side by side: it takes `models`, by their titles the seeds as
`data/reference/real/<model>.json` holds them, one entry per data set. All seeds of a model ask that model,
so a spread over them is one of facts, wordings and splits.
"""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from memgen.claims.quantities.pretrained import within_limit
from memgen.figures.style import (
    COLOR,
    CONTROL_NAME,
    DIRECTION_COLOR,
    GREEN,
    SMALL,
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
Models = dict[str, Seeds]
#: memory and rule as this task has them
SHOWN = {"memorization": "what it knows", "generalization": "what the text says", "other": "other"}
TOWARDS = {"m2g": "towards the text", "g2m": "towards what it knows"}
#: the families of bars from top to bottom: what is tested, what needs no neurons, what is a control
FAMILIES = ("steered", "rival", "floor", "shift", "output")
#: up to this ratio of its ends an axis of powers of ten has ticks between them
NARROW = 50
COSTS = {"free": "made-up entities right", "keyed": "plain facts right", "page": "perplexity"}
MARKS = {"steered": "o", "steered_max": "^", ONE_LAYER: "s", ONE_LAYER_KEPT: "D"}
MARKS |= {OPTIMISED: "X", OPTIMISED_KEPT: "P"}
BOTH = "keys with both"
MODEL_MARKS = "osD^v"  # one per model, where models share an axis


def number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _spread(ax, places: np.ndarray, values: list[dict[str, Any]], **mark: Any) -> None:
    """Rates with their intervals at these places, one mark per data set."""
    for place, one in zip(places, values):
        ax.vlines(place, number(one["low"]), number(one["high"]), color=mark["color"], lw=1.4)
        ax.plot(place, one["rate"], ls="none", ms=6, **mark)


def behaviours(models: Models) -> Drawing:
    """Shares of conflict prompts of test keys by behaviour, a mark per data set; keys with both."""
    fig, ax = plt.subplots(figsize=(WIDTH, 2.9))
    colors = [*(COLOR[name] for name in BEHAVIORS), GREEN]
    n_marks = sum(map(len, models.values())) + len(models) - 1
    step, place = min(0.16, 0.7 / max(1, n_marks)), 0.0
    for marker, seeds in zip(MODEL_MARKS * len(models), models.values()):
        shown = [[one["behaviours"][name] for one in seeds] for name in BEHAVIORS]
        both = [one["keys_with_both"] for one in seeds]
        shown += [[{"rate": share, "low": share, "high": share} for share in both]]
        at = step * (place + np.arange(len(seeds)) - (n_marks - 1) / 2)
        for x, (color, values) in enumerate(zip(colors, shown)):
            _spread(ax, x + at, values, color=color, marker=marker)
        place += len(seeds) + 1
    labels = [*(SHOWN[name] for name in BEHAVIORS), BOTH]
    ax.set_xticks(range(len(labels)), [label.replace(" ", "\n", 1) for label in labels])
    ax.set(ylabel="share", xlim=(-0.5, len(BEHAVIORS) + 0.5))
    ax.axvline(len(BEHAVIORS) - 0.5, color="#CCCCCC", lw=1)
    share_axis(ax)
    if len(models) > 1:
        for marker, title in zip(MODEL_MARKS * len(models), models):
            ax.plot([], [], marker, color="#555555", label=title)
        fig.legend(loc="outside upper center", ncols=2)
    n = _by_model(models, lambda one: str(one["behaviours"]["n"]))
    keys = _by_model(models, lambda one: str(one["n_test_keys"]))
    return Drawing(
        fig,
        alt=(
            "Dots with intervals: what decides the answers to conflict prompts of test keys, one dot per"
            f" data set. {in_words(models, _shares_in_words)}"
        ),
        caption=(
            f"Conflict prompts of test keys (n = {n}; keys: {keys}), a mark per data set, with 95 % intervals"
            " over keys. Right of the line: the share of keys that are answered in both ways."
        ),
        name="behaviours",
    )


def _shares_in_words(seeds: Seeds) -> str:
    shares = {SHOWN[name]: [one["behaviours"][name]["rate"] for one in seeds] for name in BEHAVIORS}
    shares[BOTH] = [one["keys_with_both"] for one in seeds]
    return "; ".join(f"{name} {as_list(values)}" for name, values in shares.items())


def in_words(models: Models, say) -> str:
    """What `say` says of the seeds of every model, one after the other."""
    return ". ".join(f"{title}: {say(seeds)}" for title, seeds in models.items())


def _by_model(models: Models, say) -> str:
    """A word of every data set: those of a model with commas, models apart."""
    return "; ".join(", ".join(map(say, seeds)) for seeds in models.values())


def bars_of(seeds: Seeds, direction: str) -> pd.DataFrame:
    """A row per bar, in the order of `FAMILIES`: means over data sets of success and *other*, n summed.

    Columns: name, family, success, other, n, seeds (list of the seeds' own bars). What no seed has is left
    out.
    """
    by_name: dict[str, list[dict[str, Any]]] = {}
    for one in seeds:
        for bar in within_limit(one["steering"][direction]):
            if bar["success"] is not None:
                by_name.setdefault(bar["name"], []).append(bar)
    rows = [
        {
            "name": name,
            "family": bars[0]["family"],
            "success": float(np.mean([bar["success"] for bar in bars])),
            "other": float(np.nanmean([number(bar["other"]) for bar in bars])),
            "n": sum(bar["n"] for bar in bars),
            "seeds": bars,
        }
        for name, bars in by_name.items()
    ]
    rows.sort(key=lambda row: FAMILIES.index(row["family"]))
    return pd.DataFrame(rows)


def steering(models: Models) -> Drawing:
    """Per direction a row per way to turn an answer, a column per model: target and *other* stacked."""
    tables = {d: [bars_of(seeds, d) for seeds in models.values()] for d in DIRECTIONS}
    names = {d: _rows_of(of) for d, of in tables.items()}
    heights = [len(of) for of in names.values()]
    fig, axes = plt.subplots(
        2,
        len(models),
        figsize=(WIDTH, 1.6 + 0.27 * sum(heights)),
        sharex=True,
        sharey="row",
        height_ratios=heights,
        squeeze=False,
    )
    for row, direction in zip(axes, DIRECTIONS):
        for ax, table in zip(row, tables[direction]):
            _panel(ax, table, names[direction], direction, len(models) == 1)
        row[0].set_yticks(
            np.arange(len(names[direction]))[::-1],
            [CONTROL_NAME.get(name, name) for name in names[direction]],
            fontsize=SMALL,
        )
        row[0].set_title(TOWARDS[direction])
    below = "of prompts answered the other way"
    for ax, title in zip(axes[-1], models):
        ax.set_xlabel(below if len(models) == 1 else title)
    handles = [axes[0, 0].containers[0], axes[1, 0].containers[0], axes[0, 0].containers[1]]
    labels = [*(SHOWN[BEHAVIORS[TARGET[d]]] for d in DIRECTIONS), "other"]
    fig.legend(handles, labels, loc="outside upper center", ncols=3)
    return Drawing(
        fig,
        alt=f"Stacked bars, means over data sets. {in_words(models, _bars_in_words)}",
        caption=(
            "Test keys, of prompts that were answered the other way. Colour: the answer is the one that was"
            " aimed at; grey: neither answer; the rest stayed. Bars are means over the data sets, black dots"
            " the data sets with their 95 % intervals (Wilson's; of several draws: over draws and keys). From"
            " the top: shifts of chosen neurons; what chooses no neurons, an instruction in words, one"
            " layer's mean difference, and, where it was run, a vector fitted by gradient; rephrasing alone;"
            " shifts of the same size; the output alone. What has to stay within the limit turns nothing in a"
            " data set in which no strength does; controls then have the size of the shift without a limit."
        ),
        name="steering",
    )


def _rows_of(tables: list[pd.DataFrame]) -> list[str]:
    """The names of all bars of these tables, by family; in a family as the first table has them."""
    family = {row.name: row.family for table in tables for row in table.itertuples(index=False)}
    return sorted(family, key=lambda name: FAMILIES.index(family[name]))


def _panel(ax, table: pd.DataFrame, names: list[str], direction: str, alone: bool) -> None:
    """The bars of one model in one direction; `alone`: there is room for n."""
    target = BEHAVIORS[TARGET[direction]]
    places = dict(zip(names, range(len(names))[::-1]))
    y = [places[name] for name in table.name]
    ax.barh(y, table.success, color=COLOR[target], alpha=0.75, label=SHOWN[target])
    ax.barh(y, table.other, left=table.success, color=COLOR["null"], label="other")
    for yi, row in zip(y, table.itertuples(index=False)):
        for i, bar in enumerate(row.seeds):
            at = yi + 0.22 * (i - (len(row.seeds) - 1) / 2)
            ends = (number(bar["low"]), number(bar["high"]))
            ax.hlines(at, *ends, color="black", lw=0.9)
            ax.plot(bar["success"], at, "o", color="black", ms=2.6)
        said = f"{row.success:.0%}, n={row.n:,}" if alone else f"{row.success:.0%}"
        ax.text(1.03, yi, said, va="center", fontsize=SMALL)
    share_axis(ax, "x")
    ax.set(xlim=(0, 1.42 if alone else 1.3), xticks=(0, 0.5, 1))
    ax.margins(y=0.01)


def _bars_in_words(seeds: Seeds) -> str:
    parts = []
    for direction in DIRECTIONS:
        said = ", ".join(
            f"{CONTROL_NAME.get(row.name, row.name)} {row.success:.0%} (other {row.other:.0%})"
            for row in bars_of(seeds, direction).itertuples(index=False)
        )
        parts.append(f"{TOWARDS[direction]}: {said}")
    return "; ".join(parts)


def costs(models: Models) -> Drawing:
    """Success against what is lost elsewhere, a mark per shift and data set, a row of panels per model."""
    fig, axes = plt.subplots(
        len(models),
        3,
        figsize=(WIDTH, 0.9 + 2.3 * len(models)),
        sharey=True,
        sharex="col",
        squeeze=False,
    )
    shifts: dict[str, None] = {}
    for line, (title, seeds) in zip(axes, models.items()):
        rows = cost_rows(seeds)
        shifts |= dict.fromkeys(rows["shift"])
        for ax, name in zip(line, COSTS):
            for row in rows.itertuples(index=False):
                color, value = DIRECTION_COLOR[row.direction], getattr(row, name)
                ax.plot(value, row.success, MARKS[row.shift], color=color, ms=6, alpha=0.8)
            ax.axvline(1 if name == "page" else 0, color="#CCCCCC", lw=1, zorder=0)
            ax.tick_params(labelsize=SMALL)
        line[0].set_ylabel(
            "answers turned" if len(models) == 1 else f"{title}\nturned", fontsize=SMALL
        )
    for ax, title in zip(axes[0], COSTS.values()):
        ax.set_title(title.replace(" ", "\n", 1), fontsize=SMALL)
    for ax, name in zip(axes[-1], COSTS):
        ax.set_xlabel("times" if name == "page" else "change, points", fontsize=SMALL)
    axes[0, 2].set_xscale("log")
    low, high = axes[0, 2].get_xlim()
    steps = (1, 2, 5) if high < NARROW * low else (1,)  # a vector can leave nothing of prose
    axes[0, 2].xaxis.set_major_locator(LogLocator(base=10, subs=steps))
    axes[0, 2].xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes[0, 2].xaxis.set_minor_formatter(NullFormatter())
    share_axis(axes[0, 0])
    for direction in DIRECTIONS:
        color, label = DIRECTION_COLOR[direction], TOWARDS[direction]
        axes[0, 0].plot([], [], "-", color=color, lw=4, label=label)
    for shift in shifts:
        label = CONTROL_NAME.get(shift, shift)
        axes[0, 0].plot([], [], MARKS[shift], color="#555555", ls="none", label=label)
    found = axes[0, 0].get_legend_handles_labels()
    fig.legend(*found, loc="outside lower center", ncols=2, fontsize=SMALL)
    return Drawing(
        fig,
        alt="Dots: share of answers turned against what is lost elsewhere, means over data sets. "
        + in_words(models, _costs_in_words),
        caption=(
            "What a shift turns, against what it does where nothing should change: prompts about made-up"
            " entities, plain facts without a text, and a page of prose (perplexity with the shift, as a"
            " multiple of that without). A mark per data set; the grey line: nothing lost. *No limit* is the"
            " cell that turned most on validation keys, whatever it cost; where it is missing, both are one."
            " A vector *in limit* was chosen among those that lose hardly anything there."
        ),
        name="costs",
    )


def _costs_in_words(seeds: Seeds) -> str:
    groups = cost_rows(seeds).groupby(["direction", "shift"], sort=False)
    return "; ".join(_cost_in_words(part) for _, part in groups)


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
                beyond = shift == "steered" and not found["kept_exists"]
                if shift not in MARKS or beyond:  # then the cell is that without a limit
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
    before = number(of.get("perplexity_before"))
    return points | {"page": number(of.get("perplexity_after")) / before}


def _cost_in_words(part: pd.DataFrame) -> str:
    mean, first = part.mean(numeric_only=True), part.iloc[0]
    return (
        f"{TOWARDS[first.direction]}, {CONTROL_NAME.get(first['shift'], first['shift'])}: turned"
        f" {mean.success:.0%}, made-up entities {mean.free:+.0f} points, plain facts {mean.keyed:+.0f}"
        f" points, perplexity times {mean.page:.2f}"
    )


def as_list(values: list, form: str = ".0%") -> str:
    return ", ".join(format(value, form) for value in values) or "none"
