"""Figures: a table or arrays in, a matplotlib figure out. One style, one colour a behaviour,
everywhere.

The colours are Okabe and Ito's, which the colour-blind can tell apart; no figure relies on colour
alone.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from memgen.figures.style import COLOR, WIDTH, share_axis


def neuron_heatmaps(maps: dict[str, np.ndarray]):
    """Layer x neuron maps, one panel each, neurons sorted by the last map's last layer so that
    structure shows; symmetric colour scale.
    """
    order = np.argsort(list(maps.values())[0][-1])
    fig, axes = plt.subplots(len(maps), 1, figsize=(WIDTH, 1.75 * len(maps) + 0.4), squeeze=False)
    for ax, (name, values) in zip(axes[:, 0], maps.items()):
        limit = float(np.abs(values).max()) or 1.0
        image = ax.imshow(
            values[:, order],
            aspect="auto",
            cmap="PuOr",
            vmin=-limit,
            vmax=limit,
            interpolation="nearest",
        )
        ax.set(
            title=name,
            ylabel="layer",
            yticks=range(len(values)),
            yticklabels=range(1, len(values) + 1),
        )
        fig.colorbar(image, ax=ax, pad=0.01)
    axes[-1, 0].set_xlabel(
        "neuron (coordinate of the hidden state), sorted by its NMD in the last layer"
    )
    return fig


def layer_distributions(
    nmd: np.ndarray, null: np.ndarray | None, share: np.ndarray, null_share: np.ndarray
):
    """Left: |NMD| of each layer's neurons, behaviour pairs beside same-behaviour pairs; right:
    share of significant neurons.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.2))
    layers = np.arange(1, len(nmd) + 1)
    width = 0.36 if null is not None else 0.6
    sets = [(np.abs(nmd), -0.2 if null is not None else 0, COLOR["generalization"])]
    if null is not None:
        sets.append((np.abs(null), 0.2, COLOR["null"]))
    for values, offset, color in sets:
        box = left.boxplot(
            list(values),
            positions=layers + offset,
            widths=width,
            showfliers=False,
            patch_artist=True,
            manage_ticks=False,
        )
        for patch in box["boxes"]:
            patch.set(facecolor=color, alpha=0.8)
        for line in box["medians"]:
            line.set_color("black")
    left.set(
        title="size of the difference", xlabel="layer", ylabel="|NMD| of its neurons", xticks=layers
    )
    right.plot(layers, share, marker="o", color=COLOR["generalization"], label="behaviour differs")
    right.plot(
        layers,
        null_share,
        marker="s",
        ls="--",
        color=COLOR["other"],
        label="behaviour stays (null)",
    )
    right.set(title="significant neurons", xlabel="layer", xticks=layers)
    share_axis(right)
    fig.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def top_neuron_map(rho: np.ndarray, mask: np.ndarray):
    """Where the top neurons lie: how many in each layer, and |rho| of all neurons in decreasing
    order by layer.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.1))
    layers = np.arange(1, len(rho) + 1)
    bars = left.bar(layers, mask.sum(axis=1), color=COLOR["generalization"])
    left.bar_label(bars)
    left.set(
        title=f"top {mask.mean():.0%} of all neurons",
        xlabel="layer",
        ylabel="top neurons",
        xticks=layers,
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
    return fig


def inheritance(comparison: dict, curve: pd.DataFrame):
    """Left: mean |NMD| by layer with the adapter on, off, and of the difference. Right: behaviour
    along the adapter's scale.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 4.2))
    styles = {
        "on": ("adapter on", "#009E73", "-"),
        "off": ("adapter off (base)", "black", "--"),
        "difference": ("difference", COLOR["control"], ":"),
    }
    layers = np.arange(1, len(comparison["correlation"]) + 1)
    for name, (label, color, style) in styles.items():
        left.plot(
            layers, comparison["mean_abs_nmd"][name], color=color, ls=style, marker="o", label=label
        )
    left.set(title="same pairs", xlabel="layer", ylabel="mean |NMD|", xticks=layers)
    left.set_ylim(bottom=0)
    for column, name in (
        ("memory_rate", "memorization"),
        ("rule_rate", "generalization"),
        ("other_rate", "other"),
    ):
        right.plot(curve.scale, curve[column], color=COLOR[name], marker="o", label=name)
        right.fill_between(
            curve.scale,
            curve[f"{column}_low"],
            curve[f"{column}_high"],
            color=COLOR[name],
            alpha=0.15,
            lw=0,
        )
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
    return fig
