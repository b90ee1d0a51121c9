"""Figures of lab 09: one for each thing that else could explain the prediction."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from memgen.figures.style import COLOR, GREEN, ORANGE, PINK, WIDTH, Drawing, plt, share_axis
from memgen.stats.reported import between, shown
from memgen.terms import FORECASTS

PAIRS = {
    "flip": ("behaviour flips", "black", "o", "-"),
    "memory": ("memory stays", COLOR["memorization"], "s", "--"),
    "rule": ("rule stays", COLOR["generalization"], "D", ":"),
}
CURVE = {
    "lens": ("answer, read by the logit lens", GREEN, "s", "--"),
    "probe": ("behaviour, by a probe", "black", "o", "-"),
}
SPLIT = {
    "random": ("random folds", PINK, "s", "--"),
    "by_key": ("folds of whole keys", "black", "o", "-"),
}
SAMPLES = {
    "agreement": ("same as greedy", GREEN, "white"),
    "opposite": ("the opposite", ORANGE, "black"),
    "other": ("neither", COLOR["null"], "black"),
}
KIND = {"flip": "prompts\nthat flip", "stable": "stable\nprompts"}


def _listed(values) -> str:
    return ", ".join(map(shown, values))


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


def movement(table: pd.DataFrame, found: dict) -> Drawing:
    """Test pairs along train NMD by layer: mean (left), absolute (right); `found`: `context`."""
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
    means = "; ".join(
        f"{name} (n={found[f'n_{kind}']}): {_listed(found[kind])}"
        for kind, name in (("flip", "Flips"), ("memory", "memory stays"), ("rule", "rule stays"))
    )
    return Drawing(
        fig,
        alt=f"Projection of pairs of test keys on the NMD direction by layer. {means}. Absolute size:"
        f" flips {_listed(found['flip_size'])}, behaviour stays {_listed(found['same_size'])}",
        caption="Pairs of test keys along the direction that the train keys' flip pairs give, each layer"
        " its own; 1 (dash-dotted): as far as those move on average. Left: mean. Pairs whose behaviour"
        " stays have no sign of their own, so only a drift would show there. Right: mean of the"
        " absolute movement, which shows how far the words alone push the state. Intervals by"
        " bootstrap over keys.",
        name="context",
    )


def reading(table: pd.DataFrame, result: dict) -> Drawing:
    """AUC for the behaviour by layer, logit lens and probe; grey band: strongest from the prompt."""
    fig, ax = plt.subplots(figsize=(WIDTH, 4.2))
    lens, auc, (low, high) = (
        result[k] for k in ("lens", "chosen_baseline_auc", "chosen_baseline_interval")
    )
    n_layer, readable, first = table.layer.max(), lens["readable"], lens["readable_layer"]
    forecast = FORECASTS.get(result["chosen_baseline"], "none")
    if auc is not None:
        ax.axhline(auc, color=COLOR["control"], lw=1.5, ls=":", label=f"prompt alone: {forecast}")
    if low is not None:
        ax.axhspan(low, high, color=COLOR["null"], alpha=0.35, lw=0)
    for offset, (name, look) in zip((-0.05, 0.05), CURVE.items()):
        _curve(ax, table, name, look, offset)
    ax.axhline(readable, color=GREEN, lw=0.8, label=f"readable: lens at {readable:g}")
    if first is not None:
        ax.axvspan(first - 0.5, n_layer + 0.5, color=GREEN, alpha=0.07, lw=0)
    lowest = np.nanmin([0.42, *table.lens_low - 0.02, *table.probe_low - 0.02])
    ax.set(
        ylabel="AUC for the behaviour, test keys",
        ylim=(lowest, 1.02),
        title=f"n={table.n.iloc[0]} prompts of {table.n_keys.iloc[0]} keys",
    )
    _layer_axis(ax, n_layer)
    fig.legend(loc="outside lower center", ncols=1)
    return Drawing(
        fig,
        alt=f"AUC for the behaviour by layer on test keys (n={lens['n']}). Logit lens:"
        f" {_listed(lens['auc'])}; probe: {_listed(lens['probe_auc'])}; strongest forecast from the"
        f" prompt alone ({forecast}): {shown(auc)}. By train keys, the answer is readable from layer"
        f" {first or 'none'} on",
        caption="The probe beside what the model's own output layer reads from the same states. Shaded:"
        f" from the first layer on whose lens AUC on train keys reaches {readable:g}. Grey band: the"
        " forecast from the prompt alone that is strongest on train keys. Intervals by bootstrap over"
        " keys.",
        name="lens",
    )


def guessing(table: pd.DataFrame, found: dict) -> Drawing:
    """By kind of prompt: samples beside the greedy answer; margins (right); `found`: `guessing`."""
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
    left.set(title=f"{found['n_samples']} samples per prompt", ylim=(-0.55, 1.55))
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
    kinds = (("flip", "prompts that flip"), ("stable", "stable prompts"))
    return Drawing(
        fig,
        alt="Sampled answers beside the greedy one: "
        + "; ".join(f"{name} {_samples(found[kind])}" for kind, name in kinds)
        + f"; gap {shown(found['gap'], '+.0%')} {between(found['gap_interval'], '+.0%')}",
        caption=f"Answers sampled at temperature {found['temperature']:g} to test prompts that flip, and"
        " to stable ones, whose behaviour no rephrasing changes: what they show beside the greedy"
        " answer (black bar: 95 % interval of the agreement, over keys), and how far apart the"
        " log-probabilities of the two answers' first tokens are (box: quartiles).",
        name="guessing",
    )


def _samples(x: dict) -> str:
    same, opposite, other = (shown(x[name], ".0%") for name in SAMPLES)
    margin = shown(x["margin_median"], ".1f")
    return (
        f"(n={x['n']}): same {same}, opposite {opposite}, neither {other}, median first-token margin"
        f" {margin} nats"
    )


def splits(table: pd.DataFrame, found: dict) -> Drawing:
    """AUC by layer, cross-validated by key or at random: the gap is the leak; `found`: `split`."""
    best_layer = found["best_layer"]
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
    return Drawing(
        fig,
        alt=f"Cross-validated AUC by layer among {found['n']} train prompts of {found['n_keys']} keys."
        f" Folds of whole keys: {_listed(found['by_key'])}; random folds: {_listed(found['random'])};"
        f" difference at the best layer {shown(found['leak'])}",
        caption="What lies between the two lines is what a probe gains from having seen other prompts"
        " of the same key. Same penalty, same number of folds; an AUC compares prompts of one fold."
        " Intervals by bootstrap over keys.",
        name="split",
    )
