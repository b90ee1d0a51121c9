"""Lab 15: angles between directions, where they lie among states and lead to, and what acts by layer."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from memgen.figures.style import (
    COLOR,
    DIRECTION_COLOR,
    GREEN,
    ORANGE,
    PANEL_NAME,
    PINK,
    PURPLE,
    WIDTH,
    Drawing,
    share_axis,
)
from memgen.stats.reported import shown
from memgen.terms import DIRECTIONS

#: colour, marker and line of each vector, in all figures of this lab
LOOK = {
    "difference": ("#000000", "s", "-"),
    "probe": (GREEN, "D", "-"),
    "held": (PINK, "o", "-"),
    "optimised": (ORANGE, "^", "--"),
    "random": (COLOR["control"], "x", ":"),
}
NAME = {
    "difference": "mean difference",
    "probe": "probe",
    "held": "optimised, held",
    "optimised": "optimised",
    "random": "random",
}
PATCHED = ("patched, decision", "patched, before")  # lines in the colour of their direction


def _panels(height: float):
    fig, axes = plt.subplots(1, len(DIRECTIONS), figsize=(WIDTH, height), sharey=True)
    for ax, direction in zip(axes, DIRECTIONS):
        ax.set_title(PANEL_NAME[direction])
    return fig, axes


def _legend(fig, axes) -> None:
    """Every line of any panel once; those in a panel's own colour are grey, as they mean both directions."""
    named = {
        name: one
        for ax in reversed(axes)
        for one, name in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    for name in PATCHED:
        if name in named:
            one = named[name]
            look = {"marker": one.get_marker(), "ls": one.get_linestyle()}
            named[name] = plt.Line2D([], [], color="#555555", **look)
    fig.legend(named.values(), named.keys(), loc="outside lower center", ncols=2)


def _listed(values) -> str:
    return ", ".join(shown(value) for value in values)


def angles(r: dict) -> Drawing:
    """Cosines by layer between what differs, what is read and what acts; grey: what chance gives."""
    fig, axes = _panels(4.3)
    layers, cosines, said = r["layers"], r["cosines"], []
    for ax, direction in zip(axes, DIRECTIONS):
        lines = {
            "mean difference, probe": (cosines["difference_probe"], "#000000", "s", "-"),
            "mean difference, held": (cosines[f"difference_held_{direction}"], PINK, "o", "-"),
            "probe, held": (cosines[f"probe_held_{direction}"], GREEN, "D", "--"),
        }
        chance = np.array(cosines["chance_difference"])
        ax.fill_between(layers, -chance, chance, color=COLOR["null"], alpha=0.4, lw=0)
        for name, (values, color, marker, line) in lines.items():
            ax.plot(layers, values, color=color, marker=marker, ls=line, ms=5, label=name)
        x = r[direction]
        ax.plot(x["layer"], x["held_refit"], "*", color=PINK, mec="k", ms=12, label="held, refit")
        ax.plot(x["layer"], x["held_ceiling"], "_", color="k", ms=14, mew=1.5, label="at most")
        ax.axhline(0, color="k", lw=0.5)
        ax.set(xlabel="layer", xticks=layers, ylim=(-1.05, 1.05))
        said.append(
            f"{direction}: "
            + "; ".join(f"{name} {_listed(values)}" for name, (values, *_) in lines.items())
            + f"; at layer {x['layer']} two fits of the held vector {shown(x['held_refit'])}, at most"
            f" {shown(x['held_ceiling'])}"
        )
    axes[0].set_ylabel("cosine")
    _legend(fig, axes)
    return Drawing(
        fig,
        alt=(
            f"Cosines by layer, a panel per direction. {'; '.join(said)}. Chance, by layer:"
            f" {_listed(cosines['chance_difference'])}"
        ),
        caption=(
            "Cosines between directions of one layer, all pointing towards the rule. Grey: where"
            f" {r['level']:.0%} of random directions lie that vary as the states do, beside the mean"
            " difference. Star: two held vectors that were fitted on disjoint halves of the train keys, at"
            " the layer that validation keys chose; the bar above it is the most that a vector as noisy as"
            " this one can have in common with anything."
        ),
        name="angles",
    )


def components(r: dict) -> Drawing:
    """Share of each direction in the first k principal components of the states."""
    fig, axes = _panels(4.3)
    said = []
    for ax, direction in zip(axes, DIRECTIONS):
        x = r[direction]
        for name, (color, marker, line) in LOOK.items():
            ax.plot(
                x["counts"],
                x["shares"][name],
                color=color,
                marker=marker,
                ls=line,
                ms=4,
                label=NAME[name],
            )
        ax.plot(x["counts"], x["shares"]["as_states"], color=PURPLE, ls="-.", label="states")
        ax.set(xlabel="principal components", xscale="log")
        ax.set_xticks([k for k in (1, 10, 100) if k <= x["counts"][-1]])
        ax.xaxis.set_major_formatter(plt.FuncFormatter(lambda v, _: f"{v:g}"))
        ax.minorticks_off()
        share_axis(ax)
        top = ", ".join(f"{name} {value:.0%}" for name, value in x["top_share"].items())
        said.append(f"{direction}, layer {x['layer']}, top {x['top_components']}: {top}")
    axes[0].set_ylabel("share of the direction")
    _legend(fig, axes)
    return Drawing(
        fig,
        alt=(
            "Lines, a panel per direction: share of a direction in the first principal components of the"
            f" states. {'; '.join(said)}"
        ),
        caption=(
            "How much of each direction lies in the first k principal components of the states (train keys,"
            " the layer of the held vector). *States*: the variance that the components explain, which is"
            " what a direction drawn as the states vary has; *random*: one of all dimensions alike."
        ),
        name="components",
    )


def plausible(doses: pd.DataFrame, r: dict) -> Drawing:
    """Success against how far out the shifted states lie, dose by dose."""
    fig, axes = _panels(4.3)
    said = []
    for ax, direction in zip(axes, DIRECTIONS):
        own = doses[doses.direction == direction]
        for name, (color, marker, line) in LOOK.items():
            rows = own[own.method == name].sort_values("dose")
            ax.plot(
                rows.ratio,
                rows.success,
                color=color,
                marker=marker,
                ls=line,
                ms=4.5,
                label=NAME[name],
            )
            one = r[direction]["methods"][name]
            ax.plot(one["ratio"], one["success"], "o", mfc="none", mec=color, ms=11)
            pairs = ", ".join(f"{a:.2f} {b:.0%}" for a, b in zip(rows.ratio, rows.success))
            said.append(f"{direction} {NAME[name]}: {pairs}")
        ax.axvline(1, color=COLOR["other"], ls="--", lw=1)
        ax.set(xlabel="distance (1: limit)", xscale="log")
        low, high = own.ratio.min(), own.ratio.max()
        ticks = [t for t in (0.5, 1, 2, 5, 10, 20, 50, 100) if low / 1.3 <= t <= high * 1.3]
        ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
        ax.minorticks_off()
        share_axis(ax)
    axes[0].set_ylabel("change sides")
    _legend(fig, axes)
    return Drawing(
        fig,
        alt=(
            "Lines, a panel per direction, a point per dose: distance of the shifted states and share of test"
            f" prompts that change sides. {'; '.join(said)}"
        ),
        caption=(
            "Each line is one direction at rising lengths; its point is at the median distance of the shifted"
            " states (Mahalanobis, Gaussian of train keys), in units of the distance beyond which only"
            f" {1 - r['level']:.0%} of the model's own states of test keys lie (dashed). Circled: the dose"
            " that validation keys chose. A line that rises left of the dashed one turns answers by states"
            " that the model could have had."
        ),
        name="plausible",
    )


def layers(r: dict) -> Drawing:
    """By layer: where patching turns the answer, where the mean difference is large, where a vector acts."""
    fig, axes = _panels(4.3)
    at, said = r["layers"], []
    for ax, direction in zip(axes, DIRECTIONS):
        x, color = r[direction], DIRECTION_COLOR[direction]
        lines = {"size of the mean difference": (r["size"], "#000000", "s", "-")}
        if x["patching"]:
            lines[PATCHED[0]] = (x["patching"]["residual"], color, "o", "-")
            lines[PATCHED[1]] = (x["patching"]["before"], color, "v", "--")
        lines["held vector"] = (x["by_layer"]["held"], PINK, "*", ":")
        for name, (values, own, marker, line) in lines.items():
            known = [np.nan if value is None else value for value in values]
            ax.plot(at, known, color=own, marker=marker, ls=line, ms=5.5, label=name)
        ax.set(xlabel="layer", xticks=at, ylim=(-0.04, 1.08))
        rank = (x["patching"] or {}).get("rank_residual")
        said.append(
            f"{direction}: "
            + "; ".join(f"{name} {_listed(values)}" for name, (values, *_) in lines.items())
            + f"; rank correlation of size and patching at the decision {shown(rank)}"
        )
    axes[0].set_ylabel("share, or size")
    _legend(fig, axes)
    return Drawing(
        fig,
        alt=f"Lines by layer, a panel per direction. {'; '.join(said)}",
        caption=(
            "Black: length of the mean difference, in mean lengths of a state. Coloured: pairs of test keys"
            " whose answer turns when the residual stream is patched at the decision position, or at that"
            " earlier position which turns most (lab 12). Dotted: validation prompts that the held vector of"
            " this layer turns at its best dose."
        ),
        name="layers",
    )
