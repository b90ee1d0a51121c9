"""The chapter on pretrained models: where in the model the behaviours differ, layer by layer."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import PercentFormatter

from memgen.figures.real import TOWARDS, Models, Seeds, as_list, in_words, number
from memgen.figures.style import COLOR, DIRECTION_COLOR, GREEN, PURPLE, WIDTH, Drawing
from memgen.terms import DIRECTIONS, ONE_LAYER


def along_depth(models: Models) -> Drawing:
    """Three panels over the layers, a column per model: significant neurons with nulls, probe, size of NMD.

    Thin lines: data sets, thick: their mean. Marks in the last panel: the layers whose mean difference
    alone was the best on validation keys.
    """
    shape = {"sharex": "col", "sharey": "row", "squeeze": False}
    fig, axes = plt.subplots(3, len(models), figsize=(WIDTH, 7.4), **shape)
    tops = [_column(column, seeds) for column, seeds in zip(axes.T, models.values())]
    heads = ("neurons that differ, share", "AUC: which behaviour comes", "size of the difference")
    for head, row in zip(heads, axes):
        row[0].set_title(head)
    axes[0, 0].set_ylim(-0.04 * max(tops), 1.05 * max(tops) or 1)
    axes[0, 0].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes[2, 0].set_ylim(min(0.0, axes[2, 0].get_ylim()[0]), None)
    if len(models) > 1:
        for ax, title in zip(axes[2], models):
            ax.set_xlabel(f"layer\n{title}")
        for column in axes.T[1:]:
            column[0].set_title("")
    named: dict[str, Any] = {}
    for row in axes:
        handles, labels = row[-1].get_legend_handles_labels()
        named |= dict(zip(labels, handles))
    fig.legend(named.values(), named, loc="outside lower center", ncols=2)
    return Drawing(
        fig,
        alt=f"Three curves over the layers, means over data sets. {in_words(models, _depth_in_words)}",
        caption=(
            "Along the depth of the model; thin lines: data sets, thick ones: their mean. Top: train keys."
            " Middle: test keys, shaded the mean 95 % interval over keys. Bottom: train keys, in units of the"
            " layer's state; the triangles are the layers whose mean difference alone turned most validation"
            " prompts."
        ),
        name="depth",
    )


def _column(axes, seeds: Seeds) -> float:
    """One model's three panels; returns the largest share of neurons in them."""
    table = _by_layer(seeds)
    mean = table.groupby("layer").mean(numeric_only=True)
    grey = COLOR["control"]
    _lines(axes[0], table, "significant", GREEN, "flip pairs", "-")
    _lines(axes[0], table, "null", grey, "answered alike", "--")
    _lines(axes[0], table, "oriented_null", grey, "alike, by the words", ":")
    _lines(axes[1], table, "auc", "black", "probe, test keys", "-")
    axes[1].fill_between(mean.index, mean.auc_low, mean.auc_high, color="black", alpha=0.15, lw=0)
    axes[1].axhline(_rival(seeds), color=grey, ls="--", lw=1.2, label="without states")
    _lines(axes[2], table, "nmd_relative", PURPLE, "NMD", "-")
    axes[2].set_xlabel("layer")
    for direction, marker, height in zip(DIRECTIONS, "^v", (0.05, 0.2)):
        chosen = _chosen_layers(seeds, direction)
        y = np.full(len(chosen), height)  # of the panel: they have no value of their own
        at = {"transform": axes[2].get_xaxis_transform(), "color": DIRECTION_COLOR[direction]}
        label = f"one layer, {TOWARDS[direction].removeprefix('towards ')}"
        axes[2].plot(chosen, y, marker, ms=8, label=label, **at)
    return float(table[["significant", "null", "oriented_null"]].max().max())


def _rival(seeds: Seeds) -> float:
    """AUC of the strongest forecast without hidden states, mean over data sets."""
    return float(np.nanmean([number(one["prediction"]["chosen_baseline_auc"]) for one in seeds]))


def _depth_in_words(seeds: Seeds) -> str:
    mean = _by_layer(seeds).groupby("layer").mean(numeric_only=True)
    peaks = {name: int(mean[name].idxmax()) for name in ("significant", "auc", "nmd_relative")}
    chosen = {d: _chosen_layers(seeds, d) for d in DIRECTIONS}
    return (
        f"{len(mean)} layers; neurons that differ: at most {mean.significant.max():.0%} in layer"
        f" {peaks['significant']}; where the behaviour stays at most {mean['null'].max():.0%}, turned by the"
        f" words at most {mean.oriented_null.max():.0%}; AUC of the probe: at most {mean.auc.max():.2f} in"
        f" layer {peaks['auc']}, strongest forecast without states {_rival(seeds):.2f}; relative mean"
        f" difference: largest in layer {peaks['nmd_relative']}; best single layers:"
        + ",".join(f" {TOWARDS[d]} {as_list(layers, '.0f')}" for d, layers in chosen.items())
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
