"""Lab 04: maps of the neurons, where they lie, and what an adapter inherits from its base."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from memgen.figures.style import COLOR, WIDTH, Drawing, share_axis
from memgen.neurons.nmd import NeuronMaps
from memgen.neurons.selection import select_top
from memgen.stats.reported import shown


def neuron_heatmaps(maps: NeuronMaps) -> Drawing:
    """NMD and rho, layer by neuron, sorted by NMD in the last layer; symmetric colour scale."""
    fig, axes = plt.subplots(2, 1, figsize=(WIDTH, 3.9))
    order = np.argsort(maps.nmd[-1])
    for ax, values, title in zip(axes, (maps.nmd, maps.rho), ("NMD (rule − memory)", "rho")):
        limit = float(np.abs(values).max()) or 1.0
        scale = {"cmap": "PuOr", "vmin": -limit, "vmax": limit}
        image = ax.imshow(values[:, order], aspect="auto", interpolation="nearest", **scale)
        layers = range(len(values))
        ax.set(title=title, ylabel="layer", yticks=layers, yticklabels=[n + 1 for n in layers])
        fig.colorbar(image, ax=ax, pad=0.01)
    axes[-1].set_xlabel(
        "neuron (coordinate of the hidden state), sorted by its NMD in the last layer"
    )
    by_layer = ", ".join(f"{v:.2f}" for v in np.abs(maps.rho).max(1))
    return Drawing(
        fig,
        alt=f"Two heatmaps, layer by neuron: NMD and rho. Largest |rho| by layer: {by_layer}",
        caption=(
            "Every neuron of every layer. Orange and purple: which behaviour goes with the larger value."
        ),
        name="nmd-heatmap",
    )


def layer_distributions(r: dict, arrays: dict[str, np.ndarray]) -> Drawing:
    """Left: |NMD| by layer, behaviour pairs and same-behaviour pairs; right: share significant."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.2))
    nmd, shares = NeuronMaps.of(arrays, r["site"]).nmd, r["significant_share"]
    layers, null_shares = np.arange(1, len(nmd) + 1), r["null_significant_share"]
    kinds = ((nmd, -0.2, COLOR["generalization"]), (arrays["null_nmd"], 0.2, COLOR["null"]))
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
    left.set(
        title="size of the difference", xlabel="layer", ylabel="|NMD| of its neurons", xticks=layers
    )
    blue, grey = COLOR["generalization"], COLOR["other"]
    right.plot(layers, shares, marker="o", color=blue, label="behaviour differs")
    right.plot(layers, null_shares, marker="s", ls="--", color=grey, label="behaviour stays (null)")
    right.set(title="significant neurons", xlabel="layer", xticks=layers)
    share_axis(right)
    fig.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    found, null = (", ".join(f"{v:.0%}" for v in values) for values in (shares, null_shares))
    return Drawing(
        fig,
        alt=(
            "Left: distribution of |NMD| by layer for pairs with different and with the same behaviour."
            f" Right: share of significant neurons by layer: {found}; null: {null}"
        ),
        caption=(
            "Left: size of the difference when the behaviour changes (blue) and when only the prompt"
            " changes (grey). Right: neurons that differ after false-discovery control."
        ),
        name="layers",
    )


def top_neuron_map(rho: np.ndarray) -> Drawing:
    """Where the top tenth lies: how many per layer; |rho| of all neurons, decreasing, by layer."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3.1))
    mask, layers = select_top(rho, 0.1), np.arange(1, len(rho) + 1)
    counts = mask.sum(axis=1)
    left.bar_label(left.bar(layers, counts, color=COLOR["generalization"]))
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
        "on": ("adapter on", "#009E73", "-"),
        "off": ("adapter off (base)", "black", "--"),
        "difference": ("difference", COLOR["control"], ":"),
    }
    sizes, layers = base["mean_abs_nmd"], np.arange(1, len(base["correlation"]) + 1)
    for name, (label, color, style) in styles.items():
        left.plot(layers, sizes[name], color=color, ls=style, marker="o", label=label)
    left.set(title="same pairs", xlabel="layer", ylabel="mean |NMD|", xticks=layers)
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
