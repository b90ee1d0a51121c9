"""Lab 04: maps of the neurons, where they lie, and what an adapter inherits from its base."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from memgen.figures.style import (
    BEHAVIOR_MAP,
    COLOR,
    GREEN,
    ORANGE,
    WIDTH,
    Drawing,
    layer_ticks,
    say_ends,
    share_axis,
)
from memgen.neurons.nmd import NeuronMaps
from memgen.neurons.selection import select_top
from memgen.stats.reported import shown
from memgen.terms import CHANGES

CHANGE_TITLE = {"order": "the order changes", "content": "the question changes"}
SHARE_STYLE = {
    "trained": {"marker": "o", "color": GREEN},
    "base": {"marker": "D", "ls": "--", "color": "black"},
    "drawn": {"marker": "s", "ls": ":", "color": COLOR["other"]},
    "turned": {"marker": "^", "ls": "-.", "color": COLOR["control"]},
}


def neuron_heatmaps(maps: NeuronMaps) -> Drawing:
    """NMD and rho, layer by neuron, sorted by NMD in the last layer; one scale, from memory to rule."""
    fig, axes = plt.subplots(2, 1, figsize=(WIDTH, 4.6))
    order, ends = np.argsort(maps.nmd[-1]), {}
    for ax, values, name in zip(axes, (maps.nmd, maps.rho), ("NMD (rule − memory)", "rho")):
        ends[name] = float(np.abs(values).max()) or 1.0
        scale = {"cmap": BEHAVIOR_MAP, "vmin": -1, "vmax": 1}
        shown_values = values[:, order] / ends[name]
        image = ax.imshow(shown_values, aspect="auto", interpolation="nearest", **scale)
        ax.set(title=f"{name}, full colour at ±{ends[name]:.2g}", ylabel="layer")
        ticks = layer_ticks(len(values))
        ax.set_yticks([tick - 1 for tick in ticks], ticks)
    axes[-1].set_xlabel("neuron, sorted by its NMD in the last layer")
    words = ("larger when it remembers", "larger when it follows the rule")
    say_ends(fig, image, axes, *words, ticks=[])
    by_layer = ", ".join(f"{v:.2f}" for v in np.abs(maps.rho).max(1))
    return Drawing(
        fig,
        alt=(
            "Two heatmaps, layer by neuron: NMD and rho, from vermillion (larger when the model remembers)"
            f" to blue (larger when it follows the rule). Largest |rho| by layer: {by_layer}"
        ),
        caption=(
            "Every neuron (coordinate of the hidden state) of every layer. Blue: its value is larger when"
            " the model follows the rule; vermillion: larger when it remembers; white: no difference."
        ),
        name="nmd-heatmap",
    )


def layer_distributions(r: dict, arrays: dict[str, np.ndarray]) -> Drawing:
    """Left: |NMD| by layer, behaviour pairs and same-behaviour pairs; right: share significant."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.6))
    nmd = NeuronMaps.of(arrays, r["site"]).nmd
    layers = np.arange(1, len(nmd) + 1)
    kinds = ((nmd, -0.2, GREEN), (arrays["null_nmd"], 0.2, COLOR["null"]))
    for values, offset, color in kinds:
        left.boxplot(
            list(np.abs(values)),
            positions=layers + offset,
            widths=0.36,
            showfliers=False,
            patch_artist=True,
            manage_ticks=False,
            boxprops={"facecolor": color, "alpha": 0.8},
            medianprops={"color": "black"},
        )
    ticks = layer_ticks(len(layers))
    left.set(
        title="size of the difference", xlabel="layer", ylabel="|NMD| of its neurons", xticks=ticks
    )
    shares = {
        "behaviour differs": (r["significant_share"], SHARE_STYLE["trained"]),
        "stays": (r["null_significant_share"], SHARE_STYLE["drawn"]),
        "stays, turned by the words": (r["oriented_null_significant_share"], SHARE_STYLE["turned"]),
    }
    if r["base_null"]:
        values = r["base_null"]["significant_share"]
        shares["same prompts, base"] = (values, SHARE_STYLE["base"])
    for label, (values, style) in shares.items():
        right.plot(layers, values, label=label, **style)
    right.set(title="significant neurons", xlabel="layer", xticks=ticks)
    share_axis(right)
    fig.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    listed = (f"{label}: {_percent(values)}" for label, (values, _) in shares.items())
    return Drawing(
        fig,
        alt=(
            "Left: distribution of |NMD| by layer for pairs with different and with the same behaviour."
            f" Right: share of significant neurons by layer; {'; '.join(listed)}"
        ),
        caption=(
            "Left: size of the difference when the behaviour changes (green) and when only the prompt"
            " changes (grey). Right: neurons that differ after false-discovery control, in the"
            " trained model; the same prompts in its base, which never saw a key; and pairs whose"
            " behaviour stays, as drawn and turned by a classifier of their words."
        ),
        name="layers",
    )


def against_base(r: dict) -> Drawing:
    """Trained model and base on the same pairs, by layer: a column per kind of pair.

    Above the share of neurons that differ, below the correlation of the base's NMD with the model's
    (of the pairs that the maps are made of).
    """
    fig, axes = plt.subplots(2, len(CHANGES), figsize=(WIDTH, 5), sharex=True, sharey="row")
    told = []
    for (above, below), change in zip(axes.T, CHANGES):
        found = r["by_change"][change]
        above.set(title=CHANGE_TITLE[change])
        below.set(xlabel="layer")
        if found is None:
            told.append(f"{change}: fewer than two pairs")
            continue
        layers, base = np.arange(1, len(found["significant_share"]) + 1), found["base"]
        above.plot(layers, found["significant_share"], label="trained", **SHARE_STYLE["trained"])
        words = f"{change} (n={found['n_pairs']}): trained {_percent(found['significant_share'])}"
        if base:
            above.plot(layers, base["significant_share"], label="base", **SHARE_STYLE["base"])
            known = [np.nan if v is None else v for v in base["correlation"]]
            below.plot(layers, known, **SHARE_STYLE["base"])
            words += (
                f"; base {_percent(base['significant_share'])}; correlation of the maps"
                f" {', '.join(map(shown, base['correlation']))}"
            )
        told.append(words)
        above.text(0.03, 0.9, f"n={found['n_pairs']}", transform=above.transAxes)
        below.set_xticks(layer_ticks(len(layers)))
    for ax in axes[0]:
        share_axis(ax)
    for ax in axes[1]:
        ax.axhline(0, color="black", lw=0.8, ls=":")
        ax.set_ylim(-1.05, 1.05)
    axes[0, 0].set_ylabel("significant neurons")
    axes[1, 0].set_ylabel("correlation of NMD\nwith the model's")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return Drawing(
        fig,
        alt=(
            "Above: share of significant neurons by layer in the trained model and in its base, for"
            " both kinds of pairs; below: correlation of the base's NMD with the model's. "
            + ". ".join(told)
        ),
        caption=(
            "The same pairs of prompts in the trained model (green) and in the base that it was trained"
            " from, which never saw a key (black). What the base shows is how the prompts differ."
        ),
        name="base",
    )


def same_wording(r: dict) -> Drawing:
    """Pairs in one wording beside the rephrasing pairs, each with its nulls, by layer.

    From the top: share of neurons that differ; the size of NMD; its correlation with the NMD of the
    rephrasing pairs.
    """
    fig, axes = plt.subplots(3, 1, figsize=(WIDTH, 7.4), sharex=True, height_ratios=[3, 2, 2])
    one, styles = r["same_wording"], {"one": ("s", ORANGE), "two": ("o", GREEN)}
    shares = {
        "two wordings": ("two", "-", r["significant_share"]),
        "two, answered alike": ("two", ":", r["null_significant_share"]),
        "two, alike, turned by the words": ("two", "-.", r["oriented_null_significant_share"]),
        "one wording": ("one", "-", one["significant_share"]),
        "one, answered alike": ("one", ":", one["null_significant_share"]),
    }
    sizes = {
        "two wordings": ("two", "-", r["nmd_relative"]),
        "one wording": ("one", "-", one["nmd_relative"]),
    }
    layers = np.arange(1, len(r["significant_share"]) + 1)
    for ax, curves in (
        (axes[0], shares),
        (axes[1], sizes),
        (axes[2], {"one wording": ("one", "-", one["correlation"])}),
    ):
        for label, (kind, line, values) in curves.items():
            marker, color = styles[kind]
            known = [np.nan if value is None else value for value in values]
            ax.plot(layers, known, ls=line, marker=marker, ms=3, color=color, label=label)
        ax.axhline(0, color="black", lw=0.8, ls=":")
    axes[2].set(xlabel="layer", xticks=layer_ticks(len(layers)))
    share_axis(axes[0])
    axes[0].set(title="neurons that differ", ylim=(-0.02, None))
    axes[1].set_title("NMD, in units of the state")
    axes[2].set(title="correlation of NMDs", ylim=(-1.05, 1.05))
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    listed = (f"{label} {_known(values, '.0%')}" for label, (*_, values) in shares.items())
    return Drawing(
        fig,
        alt=(
            f"Share of significant neurons by layer, {'; '.join(listed)}. NMD in units of the state,"
            f" two wordings {_known(r['nmd_relative'])}; one {_known(one['nmd_relative'])}. Correlation"
            f" of both NMDs: {_known(one['correlation'])}"
        ),
        caption=(
            f"Rephrasing pairs (one key, two wordings; n={r['n_pairs']}) and pairs of two keys in one"
            f" wording (n={one['n_pairs']}, {one['n_clusters']} couples of keys, whose pairs flip their"
            " signs together), each beside pairs that are answered alike. In one wording no difference"
            " of words goes with the behaviour."
        ),
        name="same-wording",
    )


def _known(values: list[float | None], form: str = ".2f") -> str:
    return ", ".join(shown(value, form) for value in values)


def _percent(values: list[float]) -> str:
    return ", ".join(f"{v:.0%}" for v in values)


def top_neuron_map(rho: np.ndarray) -> Drawing:
    """Where the top tenth lies: how many per layer; |rho| of all neurons, decreasing, by layer."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.1))
    mask, layers = select_top(rho, 0.1), np.arange(1, len(rho) + 1)
    counts = mask.sum(axis=1)
    left.bar_label(left.bar(layers, counts, color=GREEN))
    left.set(
        title=f"top {mask.mean():.0%} of all neurons",
        xlabel="layer",
        ylabel="top neurons",
        xticks=layer_ticks(len(layers)),
    )
    shades = plt.get_cmap("viridis")(np.linspace(0.9, 0.1, len(rho)))
    for layer, values in enumerate(np.sort(np.abs(rho), axis=1)[:, ::-1]):
        right.plot(values, color=shades[layer], label=f"layer {layer + 1}")
    right.set(
        title="correlation with the behaviour",
        xlabel="rank within the layer",
        ylabel="|rho|",
        ylim=(0, 1),
    )
    right.legend(ncols=2)
    return Drawing(
        fig,
        alt=(
            f"Left: number of the top tenth of neurons in each layer: {', '.join(map(str, counts))}."
            " Right: |rho| of each layer's neurons in decreasing order."
        ),
        caption="Where the tenth of all neurons with the highest |rho| lies.",
        name="top-neurons",
    )


def inheritance(base: dict, curve: pd.DataFrame) -> Drawing:
    """Left: mean |NMD| by layer, adapter on, off, difference; right: behaviour along its scale."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 4.2))
    styles = {
        "on": ("adapter on", GREEN, "-"),
        "off": ("adapter off (base)", "black", "--"),
        "difference": ("difference", COLOR["control"], ":"),
    }
    sizes, layers = base["mean_abs_nmd"], np.arange(1, len(base["correlation"]) + 1)
    for name, (label, color, style) in styles.items():
        left.plot(layers, sizes[name], color=color, ls=style, marker="o", label=label)
    left.set(
        title="same pairs", xlabel="layer", ylabel="mean |NMD|", xticks=layer_ticks(len(layers))
    )
    left.set_ylim(bottom=0)
    rates = {"memory_rate": "memorization", "rule_rate": "generalization", "other_rate": "other"}
    for column, name in rates.items():
        right.plot(curve.scale, curve[column], color=COLOR[name], marker="o", label=name)
        low, high = curve[f"{column}_low"], curve[f"{column}_high"]
        right.fill_between(curve.scale, low, high, color=COLOR[name], alpha=0.15, lw=0)
    right.axvline(1, color="black", lw=0.8, ls=":")
    right.set(
        title="adapter turned down and up",
        xlabel="scale of the adapter",
        ylabel="share of conflict prompts",
    )
    share_axis(right)
    for ax in (left, right):
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.1))
        ax.set_title(ax.get_title(loc="left"), loc="left")
    on, off = (", ".join(f"{v:.3f}" for v in sizes[name]) for name in ("on", "off"))
    scales = (
        f"scale {x.scale:g}: memory {x.memory_rate:.0%}, rule {x.rule_rate:.0%}, other {x.other_rate:.0%}"
        for x in curve.itertuples()
    )
    return Drawing(
        fig,
        alt=(
            f"Left: mean |NMD| by layer of the same pairs, adapter on: {on}; off: {off}. Correlation of"
            f" the two maps by layer: {', '.join(map(shown, base['correlation']))}. Right: behaviour on"
            f" test conflict prompts as the adapter is scaled: {'; '.join(scales)}"
        ),
        caption=(
            "What the adapter adds to its base. Left: the base, which never saw a key, on the same pairs."
            " Right: from the base alone (0) over the adapter as trained (1) to beyond."
        ),
        name="inheritance",
    )
