"""Lab 16: specification curves, what matters in them, the set of neurons, slopes by prompt, the forecast."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from memgen.figures.style import COLOR, DIRECTION_COLOR, DIRECTION_NAME, WIDTH, Drawing, share_axis
from memgen.stats.reported import between, shown
from memgen.terms import DIRECTIONS

CLAIMS = {
    "m2g": "success of m2g less its control",
    "g2m": "success of g2m less its control",
    "probe": "AUC of the probe less its bar",
}
CLEAR, UNCLEAR, BELOW = "#0072B2", "#999999", "#D55E00"
WAYS = {"halves": ("two halves of the keys", "o"), "resamples": ("all keys, and resampled", "s")}
SHIFTS = {
    "reported": ("reported cell", "o"),
    "max": ("most success", "^"),
    "random": ("random", "x"),
}
ALONE = {
    "shown": "already there",
    "free": "free prompts",
    "keyed": "keyed prompts",
}


def curve(table: pd.DataFrame, r: dict, claim: str, factors: Sequence[str]) -> Drawing:
    """Every specification of a claim, sorted by effect; below, which level of each factor it has.

    table: `specifications`; r: the lab's result.
    """
    rows = table[(table.claim == claim) & table.effect.notna()].reset_index(drop=True)
    levels = [(name, level) for name in factors for level in rows[name].unique()]
    fig, (above, below) = plt.subplots(
        2,
        1,
        figsize=(WIDTH, 2.6 + 0.2 * len(levels)),
        sharex=True,
        height_ratios=[2.4, 0.2 * len(levels)],
    )
    order = rows.effect.argsort(kind="stable").to_numpy()
    at = np.empty(len(rows), dtype=int)
    at[order] = np.arange(len(rows))
    colors = np.where(rows.low > 0, CLEAR, np.where(rows.high < 0, BELOW, UNCLEAR))
    above.vlines(at, rows.low, rows.high, colors=list(colors), lw=0.4, alpha=0.35)
    above.scatter(at, rows.effect, c=list(colors), s=3, rasterized=True)
    above.axhline(0, color="black", lw=0.8)
    one = r["curves"][claim]
    if len(rows):
        above.plot([at[0]], [rows.effect[0]], "D", color="black", ms=6, label="as in the book")
        above.legend(loc="upper left")
    above.set(ylabel="effect", title=CLAIMS[claim])
    thin = 0.3 if len(rows) > 1000 else 1.0  # of few lines each has to be seen
    for y, (name, level) in enumerate(levels):
        mine = (rows[name] == level).to_numpy()
        look = {"color": "#444444", "ms": 4, "mew": thin, "alpha": 0.6}
        below.plot(at[mine], np.full(mine.sum(), y), "|", **look)
    names = [name for name, _ in levels]
    for y, name in enumerate(names):
        if y and name != names[y - 1]:
            below.axhline(y - 0.5, color="#BBBBBB", lw=0.8)
    below.set_yticks(range(len(levels)), [f"{name}: {level}" for name, level in levels], fontsize=9)
    below.set(xlabel="specifications, sorted by effect", ylim=(max(len(levels), 1) - 0.5, -0.5))
    alt = (
        f"Specification curve, {CLAIMS[claim]}: {one['n_defined']} specifications,"
        f" {shown(one['positive'], '.0%')} above 0, {shown(one['share'], '.0%')} with an interval above 0,"
        f" {shown(one['reversed'], '.0%')} with one below; median {shown(one['median'], '+.2f')}, worst"
        f" {shown(one['worst'], '+.2f')}, best {shown(one['best'], '+.2f')}; as in the book"
        f" {shown(one['book'], '+.2f')}"
    )
    caption = (
        "Each point is one way to measure the same thing, on keys that chose nothing. Blue: the interval"
        " over keys lies above 0; vermillion: below it. A line below marks the level of each choice that"
        " the specification above it has: where a line is denser on one side, that choice matters."
    )
    return Drawing(fig, alt, caption, f"curve-{claim}")


def matters(r: dict) -> Drawing:
    """Share of the variance of the effects that each choice explains, claim by claim."""
    claims = [name for name in CLAIMS if r["curves"][name]["largest"] is not None]
    names = list(dict.fromkeys(f for c in claims for f in r["curves"][c]["explained"]))
    names.sort(key=lambda name: name == "together")
    shares = np.full((max(len(names), 1), max(len(claims), 1)), np.nan)
    for x, claim in enumerate(claims):
        for y, name in enumerate(names):
            value = r["curves"][claim]["explained"].get(name)
            shares[y, x] = np.nan if value is None else value
    fig, ax = plt.subplots(figsize=(WIDTH, 0.9 + 0.34 * max(len(names), 1)))
    ax.imshow(np.nan_to_num(shares), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for y, x in np.argwhere(~np.isnan(shares)):
        color = "white" if shares[y, x] > 0.6 else "black"
        ax.text(x, y, f"{shares[y, x]:.0%}", ha="center", va="center", color=color, fontsize=11)
    labels = ["together (no single one)" if name == "together" else name for name in names]
    ax.set_yticks(range(len(names)), labels)
    ax.set_xticks(range(len(claims)), claims)
    ax.tick_params(length=0)
    told = "; ".join(
        f"{claim}: "
        + ", ".join(
            f"{name} {shares[y, x]:.0%}"
            for y, name in enumerate(names)
            if shares[y, x] == shares[y, x]
        )
        for x, claim in enumerate(claims)
    )
    return Drawing(
        fig,
        alt=f"Share of the variance of the effects by choice. {told}",
        caption="How much of the difference between specifications each choice explains by itself, and what"
        " only combinations of choices explain. An empty place: the claim has no such choice.",
        name="matters",
    )


def stability(table: pd.DataFrame, r: dict) -> Drawing:
    """Jaccard of the top neurons under other keys, by how many are taken, beside random sets."""
    fig, ax = plt.subplots(figsize=(WIDTH, 4.0))
    told = []
    for i, (way, (text, marker)) in enumerate(WAYS.items()):
        rows = table[(table.way == way) & table.jaccard.notna()]
        error = np.clip([rows.jaccard - rows.low, rows.high - rows.jaccard], 0, None)
        color = ("#0072B2", "#E69F00")[i]
        at = rows.share * (0.97, 1.03)[i]
        ax.errorbar(at, rows.jaccard, yerr=error, marker=marker, color=color, capsize=2, label=text)
        ax.plot(rows.share, rows.null, ":", marker=".", color=COLOR["control"])
        told.append(
            f"{text}: "
            + ", ".join(
                f"top {x.share:.0%} {x.jaccard:.2f} (by chance {x.null:.2f})"
                for x in rows.itertuples()
            )
        )
    ax.plot(
        [], [], ":", marker=".", color=COLOR["control"], label="random sets as large in each layer"
    )
    ax.set(xscale="log", xlabel="share of the neurons that are taken", ylabel="Jaccard")
    ax.set_xticks(sorted(table.share.unique()), [f"{x:.0%}" for x in sorted(table.share.unique())])
    ax.minorticks_off()
    ax.set_ylim(-0.02, 1.02)
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=1)
    return Drawing(
        fig,
        alt=f"Jaccard of the top neurons by |rho|, mean and middle 95 % of the draws. {'; '.join(told)}",
        caption="Would other train keys have found the same neurons? Two sets of the top neurons by |rho|,"
        " and how many of all that are in one of them are in both. Bars: the middle 95 % of the draws.",
        name="stability",
    )


def slopes(table: pd.DataFrame, r: dict) -> Drawing:
    """Every test prompt's slope along the dose, sorted, by direction; grey: random shifts."""
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.2), sharey=True)
    told = []
    for ax, direction in zip(axes, DIRECTIONS):
        rows, one = table[table.direction == direction], r["slopes"][direction]
        drawn = [name for name in rows.columns if name.startswith("control_")]
        for name in drawn:
            ax.plot(np.linspace(0, 1, len(rows)), np.sort(rows[name]), color=COLOR["null"], lw=1)
        ax.plot(
            np.linspace(0, 1, len(rows)),
            np.sort(rows.slope),
            color=DIRECTION_COLOR[direction],
            lw=2,
        )
        ax.axhline(0, color="black", lw=0.8)
        ax.set(title=direction, xlabel="prompts, sorted")
        ax.xaxis.set_major_formatter(lambda x, _: f"{x:.0%}")
        told.append(
            f"{DIRECTION_NAME[direction]} (n={one['n']}, {one['n_keys']} keys): anti-steerable"
            f" {shown(one['anti'], '.0%')} {between(one['anti_interval'])}, random shifts"
            f" {shown(one['control'], '.0%')} {between(one['control_interval'])}, median slope"
            f" {shown(one['median'], '+.1f')}"
        )
    axes[0].set_ylabel("log odds per dose")
    axes[0].set_yscale("symlog", linthresh=1)
    return Drawing(
        fig,
        alt="Slopes of the log odds along the dose, one per test prompt. " + "; ".join(told),
        caption="How much one dose (the shift that lab 6 chose) moves the log odds of the first token towards"
        " the target, prompt by prompt, each curve sorted. Below 0 a prompt is anti-steerable. Grey: the"
        " same shift with its coordinates permuted. The scale is linear between -1 and 1, else logarithmic.",
        name="slopes",
    )


def isolation(r: dict) -> Drawing:
    """What a shift turns, and what it leaves as it was, by kind of prompt."""
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.0), sharey=True)
    names = ["cause", *ALONE, "score"]
    labels = ["turned (cause)", *ALONE.values(), "score"]
    told = []
    for ax, direction in zip(axes, DIRECTIONS):
        for i, (shift, (text, marker)) in enumerate(SHIFTS.items()):
            one = r["isolation"][direction][shift]
            known = [(y, one[name]) for y, name in enumerate(names) if one[name] is not None]
            color = COLOR["control"] if shift == "random" else DIRECTION_COLOR[direction]
            fill = "none" if shift == "max" else color
            ax.plot(
                [value for _, value in known],
                [y + 0.2 * (i - 1) for y, _ in known],
                marker,
                color=color,
                mfc=fill,
                ms=8,
            )
            told.append(
                f"{direction}, {text}: "
                + ", ".join(f"{labels[y]} {value:.0%}" for y, value in known)
            )
        ax.axhline(0.5, color="#BBBBBB", lw=0.8)
        ax.axhline(3.5, color="#BBBBBB", lw=0.8)
        ax.set(title=direction)
        share_axis(ax, "x")
    axes[0].set_yticks(range(len(names)), labels)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    handles = [
        plt.Line2D(
            [], [], color="#444444", marker=m, ls="", ms=8, mfc="none" if k == "max" else "#444444"
        )
        for k, (_, m) in SHIFTS.items()
    ]
    fig.legend(handles, [t for t, _ in SHIFTS.values()], loc="outside lower center", ncols=3)
    return Drawing(
        fig,
        alt="Share of the prompts that are turned, and of those left as they were. "
        + "; ".join(told),
        caption="Cause: conflict prompts that should turn and do. Below it the prompts that should stay, of"
        " those answered right before: conflict prompts that show the target already, free prompts, keyed"
        " prompts. Score: mean of cause and of the mean of the three.",
        name="isolation",
    )
