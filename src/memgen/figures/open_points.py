"""Figures of lab 11: one or two for each open point."""

from __future__ import annotations

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from memgen.figures.style import (
    COLOR,
    DIRECTION_COLOR,
    GREEN,
    PANEL_NAME,
    SIGN_MAP,
    SMALL,
    WIDTH,
    Drawing,
    say_ends,
    share_axis,
)
from memgen.stats.reported import shown
from memgen.terms import DIRECTIONS, GENERALIZATION, MEMORIZATION, OTHER

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


def _of_each(numbers: Callable[[str], str]) -> str:
    """A sentence per direction."""
    return " ".join(f"{direction}: {numbers(direction)}." for direction in DIRECTIONS)


def _share(value: float | None, form: str = ".0%") -> str:
    return shown(value, form, "n/a")


def _spans(parts: list[dict], name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`(value, low, high)` of rates with intervals, nan where there is none."""
    value, low, high = (
        np.array([np.nan if x is None else x for x in column], dtype=float)
        for column in zip(*([part[name], *(part["interval"] or (None, None))] for part in parts))
    )
    return value, low, high


def _apart(fig) -> None:
    """Room between two panels, so that 100 % of one and 0 % of the next are not read as one number."""
    fig.get_layout_engine().set(wspace=0.07)


def _legend_below(fig, handles: list, labels: list[str]) -> None:
    fig.legend(handles, labels, loc="outside lower center", ncols=2)


def _patch(color: str, **looks):
    return plt.Rectangle((0, 0), 1, 1, color=color, **looks)


def cluster_dots(table: pd.DataFrame, result: dict) -> Drawing:
    """Success of the chosen shift, all top neurons, clusters beside random groups, single neurons.

    Columns: direction, kind ('chosen', 'together', 'cluster', 'random', 'single'), name, success,
    low, high, n. `result`: the stage's `clusters`.
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
    axes[0].set_yticks(list(y.values()), list(y), fontsize=SMALL)
    handles = [
        plt.Line2D([], [], marker="o", ls="", color="black"),
        plt.Line2D([], [], marker="D", ls="", color=COLOR["control"], markerfacecolor="white"),
    ]
    _legend_below(fig, handles, ["these neurons", "as many random ones of the top neurons"])

    def numbers(direction: str) -> str:
        rows = table[table.direction == direction].itertuples(index=False)
        return ", ".join(
            f"{row.name}{' (random)' if row.kind == 'random' else ''} {row.success:.0%}"
            for row in rows
        )

    return Drawing(
        fig,
        alt="Share of test prompts that change sides, everything at the norm of the chosen shift. "
        + _of_each(numbers),
        caption=f"The {result['n_neurons']} top neurons by |rho|, clustered by co-activation within a"
        " behaviour (sizes in brackets). Each cluster alone, as many random ones of the same top"
        f" neurons ({result['n_draws']} draws), and the first neurons one by one, all at the norm of"
        " the shift that lab 06 chose. 95 % Wilson intervals.",
        name="clusters",
    )


def synergy_heatmaps(parts: dict[str, dict]) -> Drawing:
    """What two neurons do together beyond the sum of each alone, in nats of margin to the target.

    `parts`: by direction `neurons` (layer, index) and `matrix`, None on the diagonal; one scale.
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
    fig, axes = plt.subplots(1, len(parts), figsize=(WIDTH, 4.3), sharey=True, squeeze=False)
    for ax, (direction, grid) in zip(axes[0], grids.items()):
        image = ax.imshow(
            np.ma.masked_invalid(grid) if grid.size else np.zeros((1, 1)),
            cmap=SIGN_MAP,
            vmin=-limit,
            vmax=limit,
        )
        names = [f"{layer + 1}·{index}" for layer, index in parts[direction]["neurons"]]
        ax.set_xticks(range(len(names)), names, rotation=90, fontsize=SMALL)
        ax.set_yticks(range(len(names)), names, fontsize=SMALL)
        ax.set_title(PANEL_NAME[direction])
        ax.spines[:].set_visible(False)
    axes[0, 0].set_ylabel("neuron (layer·number)")
    words = ("less than the sum (nats)", "more than the sum")
    say_ends(fig, image, axes, *words)
    return Drawing(
        fig,
        alt="Heatmaps of pairwise synergy of the top neurons. "
        + _of_each(
            lambda d: (
                f"mean over pairs {_share(parts[d]['mean']['value'], '.3f')} nats, mean effect of one"
                f" neuron {_share(parts[d]['single_mean'], '.3f')} nats"
            )
        ),
        caption="What two neurons shifted together do to the margin beyond the sum of what each does"
        " alone, in nats towards the target. Negative: the second adds less than it would alone. The"
        " diagonal is empty; mind the scale.",
        name="synergy",
    )


def margin_bands(table: pd.DataFrame) -> Drawing:
    """The margin along alpha by direction: median, middle half and middle 90 % of the prompts.

    Columns: direction, alpha, q05, q25, q50, q75, q95, chosen (the alpha of lab 06), n.
    """
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.9), sharey=True)
    for ax, direction in zip(axes, DIRECTIONS):
        rows, color = table[table.direction == direction], DIRECTION_COLOR[direction]
        for low, high, shade, label in (
            (rows.q05, rows.q95, 0.2, "middle 90 % of the prompts"),
            (rows.q25, rows.q75, 0.4, "middle half"),
        ):
            ax.fill_between(rows.alpha, low, high, color=color, alpha=shade, lw=0, label=label)
        ax.plot(rows.alpha, rows.q50, color=color, marker=".", label="median")
        ax.axhline(0, color="black", lw=0.8)
        ax.axvline(rows.chosen.iloc[0], color="black", ls=":", lw=1.2, label="alpha of lab 06")
        ax.set(
            title=f"{PANEL_NAME[direction]} (n={rows.n.iloc[0]})", xlabel="alpha (multiples of NMD)"
        )
    axes[0].set_ylabel("margin (nats)\n← memory    rule →")
    handles, labels = axes[0].get_legend_handles_labels()
    bands = [_patch("#555555", alpha=shade) for shade in (0.25, 0.55)]
    median = plt.Line2D([], [], color="#555555", marker=".")
    _legend_below(fig, [*bands, median, handles[3]], labels)

    def medians(direction: str) -> str:
        rows = table[table.direction == direction].itertuples(index=False)
        return "median " + ", ".join(f"{row.q50:.1f} at {row.alpha:g}" for row in rows)

    return Drawing(
        fig,
        alt="Margin between the first tokens of the two answers against alpha. "
        + _of_each(medians),
        caption="The margin along the strength of the shift, at the top-N of lab 06: median, middle half"
        " and middle 90 % of the test prompts. Above zero the rule's first token is the likelier one.",
        name="margins",
    )


def commitment_bars(table: pd.DataFrame) -> Drawing:
    """Answers when only the first token, or the rest, is steered; interval: on those that change.

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
            looks = {"color": color, "hatch": hatch, "edgecolor": "white", "lw": 0.4}
            ax.barh(places, rows[name], 0.62, left=left, **looks)
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
            ax.text(0.02, place + 0.34, f"{value:.0%}", va="bottom", fontsize=SMALL)
        ax.set(
            title=f"{PANEL_NAME[direction]} (n={rows.n.iloc[0]})",
            xlabel="share of answers",
            ylim=(-0.5, 2.75),
        )
        share_axis(ax, "x")
    axes[0].set_yticks(list(y.values()), [PHASE_NAME[phase] for phase in y])
    mixed = plt.Rectangle((0, 0), 1, 1, facecolor=COLOR["null"], hatch="////", edgecolor="white")
    rule, memory, other = (_patch(COLOR[name]) for name in (GENERALIZATION, MEMORIZATION, OTHER))
    names = ["by rule", "from memory", "begun as one, continued as the other", "else neither"]
    _legend_below(fig, [rule, memory, mixed, other], names)
    numbers = " ".join(
        f"{row.direction} {row.phase.replace('_', ' ')}: {row.success:.0%} change sides,"
        f" {row.stays:.0%} stay, {row.other:.0%} other."
        for row in table.itertuples(index=False)
    )
    return Drawing(
        fig,
        alt="Stacked bars: answers when steering is on throughout, released after the first answer"
        f" token, or on only after it. {numbers}",
        caption="The chosen shift, switched off after the first answer token, or switched on only then."
        " Nothing but the text is carried over. The number and the interval (95 %, Wilson) are of the"
        " answers that change sides.",
        name="commitment",
    )


def instruction_bars(instruction: dict) -> Drawing:
    """Share that changes sides: steering, a trained instruction, its controls; Wilson intervals."""
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 4.6), sharey=True)
    _apart(fig)
    y = np.arange(len(INSTRUCTION_NAME))[::-1]
    for ax, direction in zip(axes, DIRECTIONS):
        rows = [instruction[direction][name] for name in INSTRUCTION_NAME]
        value, low, high = _spans(rows, "success")
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
                fontsize=SMALL,
            )
        ax.set(title=PANEL_NAME[direction], xlabel="change sides", ylim=(-0.5, len(rows) - 0.35))
        share_axis(ax, "x")
    axes[0].set_yticks(y, list(INSTRUCTION_NAME.values()))

    def shares(direction: str) -> str:
        found = instruction[direction]
        return ", ".join(f"{name} {_share(found[name]['success'])}" for name in INSTRUCTION_NAME)

    return Drawing(
        fig,
        alt="Bars: share of test prompts that change sides. " + _of_each(shares),
        caption="Steering beside a trained instruction token in front of the prompt, on test prompts"
        " that the original model answers the other way. The model that was taught the tokens is also"
        " asked without one and with the opposite one. 95 % Wilson intervals.",
        name="instruction",
    )


def hybrid_bars(hybrid: dict) -> Drawing:
    """Accuracy of the second of two prompts in one text, and of it alone, with Wilson intervals."""
    fig, ax = plt.subplots(figsize=(WIDTH, 3.6))
    x = np.arange(len(COMBINATION_NAME))
    second = [hybrid[name] for name in COMBINATION_NAME]
    for offset, color, label, parts in (
        (-0.2, GREEN, "second prompt of a text", second),
        (0.2, COLOR["null"], "the same prompt alone", [part["alone"] for part in second]),
    ):
        value, low, high = _spans(parts, "accuracy")
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
                fontsize=SMALL,
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
    numbers = "; ".join(
        f"{name.replace('_', ' ')} {_share(of['accuracy'])}, alone {_share(of['alone']['accuracy'])}"
        f" (n={of['n']})"
        for name, of in hybrid.items()
    )
    return Drawing(
        fig,
        alt="Bars: accuracy on the second of two prompts in one text, and on the same prompt alone."
        f" {numbers}",
        caption="Two prompts in one text, the first with its right answer. No such text was ever trained"
        " on; the two on the right ask for one behaviour only, and show what the mere concatenation"
        " does. 95 % Wilson intervals.",
        name="hybrid",
    )
