"""Figures of lab 09: one for each thing that else could explain the prediction. Tables of
`confounds` in, matplotlib figures out.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from memgen.figures.style import COLOR, WIDTH, plt, share_axis

PAIRS = {
    "flip": ("behaviour flips", "black", "o", "-"),
    "memory": ("memory stays", COLOR["memorization"], "s", "--"),
    "rule": ("rule stays", COLOR["generalization"], "D", ":"),
}
CURVE = {
    "lens": ("answer, read by the logit lens", "#009E73", "s", "--"),
    "probe": ("behaviour, by a probe", "black", "o", "-"),
}
SPLIT = {
    "random": ("random folds", "#CC79A7", "s", "--"),
    "by_key": ("folds of whole keys", "black", "o", "-"),
}
SAMPLES = {
    "agreement": ("same as greedy", "#009E73", "white"),
    "opposite": ("the opposite", "#E69F00", "black"),
    "other": ("neither", COLOR["null"], "black"),
}
KIND = {"flip": "prompts\nthat flip", "stable": "prompts\nthat do not"}


def _curve(
    ax,
    rows: pd.DataFrame,
    name: str,
    look: tuple[str, str, str, str],
    offset: float = 0,
    label: str = "",
) -> None:
    """One line over the layers with its 95 % intervals; nothing where no number is defined."""
    title, color, marker, style = look
    error = np.clip([rows[name] - rows[f"{name}_low"], rows[f"{name}_high"] - rows[name]], 0, None)
    ax.errorbar(
        rows.layer + offset,
        rows[name],
        yerr=error,
        color=color,
        marker=marker,
        ls=style,
        capsize=2,
        label=label or title,
    )


def _layer_axis(ax, n_layer: int) -> None:
    ax.set_xlabel("layer")
    ax.set_xlim(0.6, n_layer + 0.4)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))


def movement(table: pd.DataFrame):
    """Pairs of test keys along the NMD direction of the train keys: mean (left) and mean absolute
    (right) projection by layer, one line a kind of pair.
    """
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.9))
    for ax, column, title in zip(axes, ("mean", "size"), ("net movement", "movement either way")):
        for offset, (kind, look) in zip((-0.08, 0, 0.08), PAIRS.items()):
            rows = table[table.kind == kind]
            _curve(ax, rows, column, look, offset, f"{look[0]} (n={rows.n.iloc[0]})")
        ax.axhline(1, color=COLOR["control"], lw=1, ls="-.")
        ax.axhline(0, color=COLOR["control"], lw=0.8)
        ax.set(title=title)
        _layer_axis(ax, table.layer.max())
    axes[0].set_ylabel("projection (1: train flips' mean)")
    axes[1].set_ylim(bottom=min(0, axes[1].get_ylim()[0]))
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig


def reading(
    table: pd.DataFrame,
    prompt_only: tuple[float | None, list[float | None]],
    readable: float,
    readable_layer: int | None,
):
    """AUC for the behaviour by layer, of the logit lens and of the probe; what the prompt's words
    alone give as a grey band (`prompt_only`: AUC, interval).
    """
    fig, ax = plt.subplots(figsize=(WIDTH, 4.2))
    n_layer, (auc, (low, high)) = table.layer.max(), prompt_only
    if auc is not None:
        ax.axhline(auc, color=COLOR["control"], lw=1.5, ls=":", label="the prompt's words alone")
    if low is not None:
        ax.axhspan(low, high, color=COLOR["null"], alpha=0.35, lw=0)
    for offset, (name, look) in zip((-0.05, 0.05), CURVE.items()):
        _curve(ax, table, name, look, offset)
    ax.axhline(readable, color="#009E73", lw=0.8, label=f"readable: lens at {readable:g}")
    if readable_layer is not None:
        ax.axvspan(readable_layer - 0.5, n_layer + 0.5, color="#009E73", alpha=0.07, lw=0)
    lowest = np.nanmin([0.42, *table.lens_low - 0.02, *table.probe_low - 0.02])
    ax.set(
        ylabel="AUC for the behaviour, test keys",
        ylim=(lowest, 1.02),
        title=f"n={table.n.iloc[0]} prompts of {table.n_keys.iloc[0]} keys",
    )
    _layer_axis(ax, n_layer)
    fig.legend(loc="outside lower center", ncols=2)
    return fig


def guessing(table: pd.DataFrame, found: dict):
    """Left: what sampled answers show beside the greedy one, by kind of prompt; right: the
    first-token margin of the same prompts.

    `found`: the stage's `guessing` result, for n and the interval of the agreement.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 3), sharey=True, width_ratios=[1.5, 1])
    for y, kind in zip((1, 0), KIND):
        rows, start = table[table.kind == kind], 0.0
        for name, (_, color, ink) in SAMPLES.items() if len(rows) else ():
            share = rows[name].mean()
            left.barh(y, share, 0.6, left=start, color=color)
            if share > 0.12:
                left.text(
                    start + share / 2, y + 0.1, f"{share:.0%}", ha="center", va="center", color=ink
                )
            start += share
        if found[kind]["interval"][0] is not None:
            low, high = found[kind]["interval"]
            left.plot(
                [low, high], [y - 0.17, y - 0.17], color="black", lw=2.5, solid_capstyle="butt"
            )
        margins = rows.margin.dropna()
        if len(margins):
            right.boxplot(
                margins,
                positions=[y],
                widths=0.5,
                orientation="horizontal",
                showfliers=False,
                patch_artist=True,
                manage_ticks=False,
                boxprops={"facecolor": COLOR["null"]},
                medianprops={"color": "black", "lw": 2},
            )
    left.set_yticks([1, 0], [f"{text}\n(n={found[kind]['n']})" for kind, text in KIND.items()])
    left.set(title=f"{found['n_samples']} samples a prompt", ylim=(-0.55, 1.55))
    left.set(xlabel="share of the samples", xticks=[0, 0.5, 1])
    share_axis(left, "x")
    right.set(title="first-token margin", xlabel="nats")
    right.set_xlim(left=0)
    fig.legend(
        [plt.Rectangle((0, 0), 1, 1, color=color) for _, color, _ in SAMPLES.values()],
        [text for text, _, _ in SAMPLES.values()],
        loc="outside lower center",
        ncols=3,
    )
    return fig


def splits(table: pd.DataFrame, best_layer: int | None):
    """Cross-validated AUC among train prompts by layer, with folds of whole keys and with random
    folds; what lies between them is the leak.
    """
    fig, ax = plt.subplots(figsize=(WIDTH, 3.9))
    ax.fill_between(
        table.layer, table.by_key, table.random, color=SPLIT["random"][1], alpha=0.15, lw=0
    )
    for offset, (name, look) in zip((-0.05, 0.05), SPLIT.items()):
        _curve(ax, table, name, look, offset)
    if best_layer is not None:
        ax.axvline(
            best_layer, color=COLOR["control"], lw=0.8, ls="-.", label="best layer by key", zorder=0
        )
    lowest = np.nanmin([0.45, *table.by_key_low - 0.02, *table.random_low - 0.02])
    ax.axhline(0.5, color=COLOR["control"], lw=0.8)
    ax.set(
        ylabel="AUC, cross-validated",
        ylim=(lowest, 1.02),
        title=f"n={table.n.iloc[0]} prompts of {table.n_keys.iloc[0]} train keys",
    )
    _layer_axis(ax, table.layer.max())
    fig.legend(loc="outside lower center", ncols=3)
    return fig
