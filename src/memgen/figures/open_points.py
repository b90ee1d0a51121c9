"""Figures of lab 11: tables and parts of its result in, matplotlib figures out, in the style of
`figures`.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from memgen.figures.style import COLOR, DIRECTION_COLOR, PANEL_NAME, WIDTH, share_axis
from memgen.terms import DIRECTIONS

PHASE_NAME = {
    "throughout": "steered throughout",
    "until_first_token": "released after the\nfirst answer token",
    "after_first_token": "steered only after\nthe first token",
}
INSTRUCTION_NAME = {
    "steering": "steering (lab 06)",
    "instruction": "instruction",
    "none": "taught model,\nno instruction",
    "opposite": "opposite\ninstruction",
    "rephrasing": "rephrasing alone",
}
COMBINATION_NAME = {
    "recall_then_reason": "recall,\nthen reason",
    "reason_then_recall": "reason,\nthen recall",
    "reason_then_reason": "reason,\nthen reason",
    "recall_then_recall": "recall,\nthen recall",
}


def _error(value, low, high) -> np.ndarray:
    """Distances to both ends of the intervals, `[2, n]`; no whisker where there is no number."""
    value, low, high = (np.asarray(x, dtype=float) for x in (value, low, high))
    return np.nan_to_num(np.clip([value - low, high - value], 0, None))


def _apart(fig) -> None:
    """Room between two panels, so that 100 % of one and 0 % of the next are not read as one number."""
    fig.get_layout_engine().set(wspace=0.07)


def cluster_dots(table: pd.DataFrame):
    """Success of the chosen shift, of all top neurons, of every cluster beside random groups of its
    size, and of single neurons, one panel a direction.

    Columns: direction, kind ('chosen', 'together', 'cluster', 'random', 'single'), name, success,
    low, high, n.
    """
    names = list(dict.fromkeys(table.name))
    y = dict(zip(names, np.arange(len(names))[::-1]))
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 1.6 + 0.27 * len(names)), sharey=True)
    _apart(fig)
    for ax, direction in zip(axes, DIRECTIONS):
        rows, own = table[table.direction == direction], DIRECTION_COLOR[direction]
        for random, marker, color, face, offset in (
            (True, "D", COLOR["control"], "white", -0.18),
            (False, "o", own, own, 0.1),
        ):
            part = rows[(rows.kind == "random") == random]
            ax.errorbar(
                part.success,
                [y[name] + offset for name in part.name],
                xerr=_error(part.success, part.low, part.high),
                ls="",
                marker=marker,
                ms=5,
                color=color,
                markerfacecolor=face,
                elinewidth=1,
            )
        ax.set(
            title=f"{PANEL_NAME[direction]} (n={rows[rows.kind == 'chosen'].n.iloc[0]})",
            xlabel="change sides",
            ylim=(-0.7, len(names) - 0.3),
        )
        ax.grid(axis="x", color="#DDDDDD", lw=0.6)
        share_axis(ax, "x")
    axes[0].set_yticks(list(y.values()), list(y), fontsize=10)
    handles = [
        plt.Line2D([], [], marker="o", ls="", color="black"),
        plt.Line2D([], [], marker="D", ls="", color=COLOR["control"], markerfacecolor="white"),
    ]
    fig.legend(
        handles,
        ["these neurons", "as many random ones of the top neurons"],
        loc="outside lower center",
        ncols=2,
    )
    return fig


def synergy_heatmaps(parts: dict[str, dict]):
    """What two neurons do together beyond the sum of what each does alone, in nats of margin
    towards the target; one panel a direction.

    `parts`: by direction `neurons` (layer, index) and `matrix` with None on the diagonal. One
    colour scale for both.
    """
    grids = {
        d: np.array(x["matrix"], dtype=float).reshape(len(x["neurons"]), -1)
        for d, x in parts.items()
    }
    limit = (
        max(
            (float(np.nanmax(np.abs(grid))) for grid in grids.values() if np.isfinite(grid).any()),
            default=1.0,
        )
        or 1.0
    )
    fig, axes = plt.subplots(1, len(parts), figsize=(WIDTH, 3.7), sharey=True, squeeze=False)
    for ax, (direction, grid) in zip(axes[0], grids.items()):
        image = ax.imshow(
            np.ma.masked_invalid(grid) if grid.size else np.zeros((1, 1)),
            cmap="PuOr",
            vmin=-limit,
            vmax=limit,
        )
        names = [f"{layer + 1}·{index}" for layer, index in parts[direction]["neurons"]]
        ax.set_xticks(range(len(names)), names, rotation=90, fontsize=9)
        ax.set_yticks(range(len(names)), names, fontsize=9)
        ax.set_title(PANEL_NAME[direction])
        ax.spines[:].set_visible(False)
    axes[0, 0].set_ylabel("neuron (layer·number)")
    fig.colorbar(image, ax=axes, pad=0.01, shrink=0.8, label="synergy (nats)")
    return fig


def margin_bands(table: pd.DataFrame):
    """The margin along alpha: median, and bands with the middle half and the middle 90 % of the
    prompts, one panel a direction.

    Columns: direction, alpha, q05, q25, q50, q75, q95, chosen (the alpha of lab 06), n.
    """
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.9), sharey=True)
    for ax, direction in zip(axes, DIRECTIONS):
        rows, color = table[table.direction == direction], DIRECTION_COLOR[direction]
        ax.fill_between(
            rows.alpha,
            rows.q05,
            rows.q95,
            color=color,
            alpha=0.2,
            lw=0,
            label="middle 90 % of the prompts",
        )
        ax.fill_between(
            rows.alpha, rows.q25, rows.q75, color=color, alpha=0.4, lw=0, label="middle half"
        )
        ax.plot(rows.alpha, rows.q50, color=color, marker=".", label="median")
        ax.axhline(0, color="black", lw=0.8)
        ax.axvline(rows.chosen.iloc[0], color="black", ls=":", lw=1.2, label="alpha of lab 06")
        ax.set(
            title=f"{PANEL_NAME[direction]} (n={rows.n.iloc[0]})", xlabel="alpha (multiples of NMD)"
        )
    axes[0].set_ylabel("margin (nats)\n← memory    rule →")
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(
        [
            plt.Rectangle((0, 0), 1, 1, color="#555555", alpha=0.25),
            plt.Rectangle((0, 0), 1, 1, color="#555555", alpha=0.55),
            plt.Line2D([], [], color="#555555", marker="."),
            handles[3],
        ],
        labels,
        loc="outside lower center",
        ncols=2,
    )
    return fig


def commitment_bars(table: pd.DataFrame):
    """What the answer is when only its first token, or only the rest, is steered: stacked shares,
    the interval on the share that changes sides.

    Columns: direction, phase, success, low, high, mixed, other, stays, n.
    """
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.9), sharey=True)
    _apart(fig)
    y = dict(zip(PHASE_NAME, (2, 1, 0)))
    for ax, direction in zip(axes, DIRECTIONS):
        rows = table[table.direction == direction].assign(
            mixed=lambda t: t.mixed.astype(float).fillna(0).clip(upper=t.other)
        )
        rows = rows.assign(rest=rows.other - rows.mixed)
        back = next(d for d in DIRECTIONS if d != direction)
        fill = {
            "success": (DIRECTION_COLOR[direction], ""),
            "mixed": (COLOR["null"], "////"),
            "rest": (COLOR["other"], ""),
            "stays": (DIRECTION_COLOR[back], ""),
        }
        left = np.zeros(len(rows))
        places = [y[phase] for phase in rows.phase]
        for name, (color, hatch) in fill.items():
            ax.barh(
                places,
                rows[name],
                0.62,
                left=left,
                color=color,
                hatch=hatch,
                edgecolor="white",
                lw=0.4,
            )
            left += rows[name].to_numpy()
        ax.errorbar(
            rows.success,
            places,
            xerr=_error(rows.success, rows.low, rows.high),
            ls="",
            color="black",
            elinewidth=1.2,
            capsize=2,
        )
        for place, value in zip(places, rows.success):
            ax.text(0.02, place + 0.34, f"{value:.0%}", va="bottom", fontsize=10)
        ax.set(
            title=f"{PANEL_NAME[direction]} (n={rows.n.iloc[0]})",
            xlabel="share of answers",
            ylim=(-0.5, 2.75),
        )
        share_axis(ax, "x")
    axes[0].set_yticks(list(y.values()), [PHASE_NAME[phase] for phase in y])
    handles = [
        plt.Rectangle((0, 0), 1, 1, color=COLOR["generalization"]),
        plt.Rectangle((0, 0), 1, 1, color=COLOR["memorization"]),
        plt.Rectangle((0, 0), 1, 1, facecolor=COLOR["null"], hatch="////", edgecolor="white"),
        plt.Rectangle((0, 0), 1, 1, color=COLOR["other"]),
    ]
    fig.legend(
        handles,
        ["by rule", "from memory", "begun as one, continued as the other", "else neither"],
        loc="outside lower center",
        ncols=2,
    )
    return fig


def instruction_bars(instruction: dict):
    """Share of test prompts that change sides under steering, a trained instruction and its
    controls, with Wilson intervals; one panel a direction.
    """
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 4.6), sharey=True)
    _apart(fig)
    y = np.arange(len(INSTRUCTION_NAME))[::-1]
    for ax, direction in zip(axes, DIRECTIONS):
        rows = [instruction[direction][name] for name in INSTRUCTION_NAME]
        value = np.array(
            [np.nan if x["success"] is None else x["success"] for x in rows], dtype=float
        )
        low, high = (
            np.array(
                [np.nan if x["interval"] is None else x["interval"][end] for x in rows], dtype=float
            )
            for end in (0, 1)
        )
        colors = [
            DIRECTION_COLOR[direction] if name in ("steering", "instruction") else COLOR["null"]
            for name in INSTRUCTION_NAME
        ]
        bars = ax.barh(
            y,
            np.nan_to_num(value),
            0.52,
            color=colors,
            xerr=_error(value, low, high),
            error_kw={"lw": 1},
        )
        bars[1].set(hatch="////", edgecolor="white")
        for yi, x in zip(y, rows):
            ax.text(
                0.01,
                yi + 0.29,
                "n/a" if x["success"] is None else f"{x['success']:.0%} (n={x['n']})",
                va="bottom",
                fontsize=9.5,
            )
        ax.set(title=PANEL_NAME[direction], xlabel="change sides", ylim=(-0.5, len(rows) - 0.35))
        share_axis(ax, "x")
    axes[0].set_yticks(y, list(INSTRUCTION_NAME.values()))
    return fig


def hybrid_bars(hybrid: dict):
    """Accuracy of the second of two prompts in one text, beside the same prompt alone, with Wilson
    intervals and n.
    """
    fig, ax = plt.subplots(figsize=(WIDTH, 3.6))
    x = np.arange(len(COMBINATION_NAME))
    second = [hybrid[name] for name in COMBINATION_NAME]
    for offset, color, label, parts in (
        (-0.2, "#009E73", "second prompt of a text", second),
        (0.2, COLOR["null"], "the same prompt alone", [part["alone"] for part in second]),
    ):
        value = np.array(
            [np.nan if p["accuracy"] is None else p["accuracy"] for p in parts], dtype=float
        )
        low, high = (
            np.array(
                [np.nan if p["interval"] is None else p["interval"][end] for p in parts],
                dtype=float,
            )
            for end in (0, 1)
        )
        ax.bar(
            x + offset,
            np.nan_to_num(value),
            0.38,
            color=color,
            yerr=_error(value, low, high),
            error_kw={"lw": 1},
            label=label,
        )
        for xi, top, p in zip(x + offset, np.nan_to_num(high), parts):
            ax.text(
                xi,
                top + 0.02,
                "n/a" if p["accuracy"] is None else f"{p['accuracy']:.0%}",
                ha="center",
                fontsize=10,
            )
    ax.set_xticks(x, [f"{text}\nn={hybrid[name]['n']}" for name, text in COMBINATION_NAME.items()])
    ax.axvline(1.5, color="black", lw=0.8, ls=":")
    for place, text in ((0.5, "both behaviours"), (2.5, "one behaviour only")):
        ax.text(place, 1.13, text, ha="center", va="bottom")
    ax.set_ylabel("answered right")
    share_axis(ax)
    ax.set_ylim(0, 1.22)
    ax.set_yticks(np.linspace(0, 1, 6))
    fig.legend(loc="outside upper center", ncols=2)
    return fig
