"""Lab 10: every variant of the shift beside what it is compared with, and how many neurons it takes."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from memgen.figures.style import (
    COLOR,
    DIRECTION_COLOR,
    PANEL_NAME,
    SMALL,
    WIDTH,
    Drawing,
    share_axis,
)
from memgen.terms import DIRECTIONS

GROUP_NAME = {
    "layers": "layers",
    "site": "site",
    "positions": "positions",
    "count": "number of neurons",
    "ranking": "ranked by",
    "magnitude": "moved by",
    "clamping": "add or clamp",
    "clamping_prompt": "same, prompt only",
}
VARIANT_NAME = {
    ("positions", "all"): "all",
    ("positions", "decision"): "decision only",
    ("count", "all"): "all",
    ("ranking", "abs_nmd"): "|NMD|",
    ("ranking", "effect_size"): "effect size",
    ("ranking", "smallest_p"): "smallest p",
    ("magnitude", "constant"): "a constant",
    ("magnitude", "probe_weight"): "probe's weight",
    ("magnitude", "dense_difference"): "all of NMD",
}
CLAMP_NAME = {
    "additive": "add",
    "clamp_half": "clamp, half",
    "clamp_full": "clamp, full",
    "clamp_same_norm": "clamp, same norm",
}
VARIANT_NAME |= {
    (group, variant): name
    for group in ("clamping", "clamping_prompt")
    for variant, name in CLAMP_NAME.items()
}


def variant_name(group: str, variant: str) -> str:
    """What a variant is called in figures and tables."""
    words = (
        variant.replace("as_chosen", "as chosen").replace("n_", "").replace("_", " ")
        if group in ("", "layers", "count")
        else variant.replace("_", " ")
    )
    return VARIANT_NAME.get(
        (group, variant), variant if group == "site" and variant != "as_chosen" else words
    )


def overview(table: pd.DataFrame, reference: dict[str, str]) -> Drawing:
    """Success of every variant by group, a panel per direction, a line at what it is compared with.

    Columns: direction, group, variant, success, low, high, n, difference_low, difference_high.
    `reference`: the variant of the line, by group. Random neurons: grey
    diamonds in the row of as many chosen. Filled: the paired interval of the difference from the
    line excludes 0.
    """
    named = table[(table.variant != "as_chosen") & ~table.variant.str.startswith("random_")]
    places, y = {("", "as_chosen"): 0.0}, 1.2
    for group in dict.fromkeys(table.group):
        places[group, ""] = y
        for variant in dict.fromkeys(named.variant[named.group == group]):
            y += 1
            places[group, variant] = y
        y += 1.4
    fig, axes = plt.subplots(1, len(DIRECTIONS), figsize=(WIDTH, 1.3 + 0.215 * y), sharey=True)
    for ax, direction in zip(axes, DIRECTIONS):
        rows = table[table.direction == direction]
        for group in dict.fromkeys(rows.group):
            ys = [place for (name, variant), place in places.items() if name == group and variant]
            line = rows[(rows.group == group) & (rows.variant == reference[group])].success
            ax.plot(np.repeat(line, 2), [min(ys) - 0.5, max(ys) + 0.5], color="black", lw=1.2)
        whole = rows[rows.variant == "as_chosen"].iloc[:1]
        for row in pd.concat(
            [whole.assign(group=""), rows[rows.variant != "as_chosen"]]
        ).itertuples():
            _mark(ax, row, places, direction)
        ax.set(
            title=f"{PANEL_NAME[direction]}\nn = {whole.n.max()}",
            xlabel="change sides",
            ylim=(y - 0.7, -0.8),
        )
        share_axis(ax, "x")
        ax.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"], fontsize=SMALL)
        ax.grid(axis="x", color="#E5E5E5", lw=0.8)
        ax.set_axisbelow(True)
        ax.tick_params(axis="y", length=0)
    axes[0].set_yticks(
        list(places.values()),
        [variant_name(*place) if place[1] else GROUP_NAME[place[0]] for place in places],
        fontsize=SMALL,
    )
    for (group, variant), label in zip(places, axes[0].get_yticklabels()):
        label.set_fontweight("normal" if group and variant else "bold")
    marks = [plt.Line2D([], [], color="black", lw=1.2)]
    grey = COLOR["control"]
    marks += [
        plt.Line2D([], [], color=c, marker=m, mfc=f, ls="")
        for c, m, f in (("black", "o", "black"), ("black", "o", "white"), (grey, "D", grey))
    ]
    fig.legend(
        marks,
        ["what it is compared with", "differs from it", "not shown to differ", "random neurons"],
        loc="outside lower center",
        ncols=2,
    )
    return Drawing(
        fig,
        alt=(
            "Dots with intervals: share of test prompts that change sides under each variant of the"
            f" shift, by group. {described(table)}"
        ),
        caption=(
            "Every variant on the same test keys, with 95 % Wilson intervals (random neurons: prompts"
            " times draws). A filled mark differs from its group's line: the paired interval, over"
            " keys, excludes 0 (by chance for about one in twenty variants that do not matter)."
            " None: there is no such variant, because no chosen neuron lies in that layer, say."
        ),
        name="overview",
    )


def _mark(ax, row, places: dict[tuple[str, str], float], direction: str) -> None:
    random = row.variant.startswith("random_")
    y = places[row.group, row.variant.replace("random_", "n_")] + (0.32 if random else 0)
    if not np.isfinite(row.success):
        if not random:
            ax.text(
                0.02,
                y,
                "none",
                va="center",
                fontsize=SMALL,
                color=COLOR["control"],
                bbox={"facecolor": "white", "lw": 0, "pad": 0.5},
            )
        return
    color = COLOR["control"] if random else DIRECTION_COLOR[direction] if row.group else "black"
    differs = not row.group or row.difference_low > 0 or row.difference_high < 0
    ax.errorbar(
        row.success,
        y,
        xerr=np.clip([[row.success - row.low], [row.high - row.success]], 0, None),
        color=color,
        marker="D" if random else "o",
        ms=4 if random else 5.5,
        mfc=color if differs else "white",
        lw=1,
    )


def by_count(table: pd.DataFrame) -> Drawing:
    """Success by number of neurons at one norm: largest |rho|, random; a star at the chosen number.

    Columns: direction, group, variant, success, low, high, n, neurons. One panel per direction.
    """
    count = table[table.group == "count"]
    rows = count[count.success.notna()]
    fig, axes = plt.subplots(1, len(DIRECTIONS), figsize=(WIDTH, 3.9), sharey=True)
    for ax, direction in zip(axes, DIRECTIONS):
        here = rows[rows.direction == direction]
        whole = here[here.variant == "all"]
        ranked, drawn = (
            here[here.variant.str.startswith("n_")],
            here[here.variant.str.startswith("random_")],
        )
        for part, color, marker, style in (
            (drawn, COLOR["control"], "D", "--"),
            (ranked, DIRECTION_COLOR[direction], "o", "-"),
        ):
            part = pd.concat([part, whole]).sort_values("neurons")
            error = np.clip([part.success - part.low, part.high - part.success], 0, None)
            ax.errorbar(
                part.neurons,
                part.success,
                yerr=error,
                color=color,
                marker=marker,
                ms=5,
                ls=style,
                capsize=2,
            )
        star = here[here.variant == "as_chosen"]
        error = np.clip([star.success - star.low, star.high - star.success], 0, None)
        ax.errorbar(
            star.neurons,
            star.success,
            yerr=error,
            color="black",
            marker="*",
            ms=13,
            ls="",
            capsize=2,
            zorder=5,
        )
        ax.set(
            title=f"{PANEL_NAME[direction]}\nn = {star.n.max() if len(star) else 0}",
            xlabel="neurons moved",
            xscale="log",
        )
        ticks = sorted(set(ranked.neurons) | set(whole.neurons))
        ticks = [
            tick for tick, above in zip(ticks, [*ticks[1:], np.inf]) if above > 2.5 * tick
        ]  # labels side by side
        ax.set_xticks(ticks, [f"{tick:.0f}" for tick in ticks])
        ax.minorticks_off()
        share_axis(ax)
    axes[0].set_ylabel("change sides")
    marks = (("black", "o", "-", 5), (COLOR["control"], "D", "--", 5), ("black", "*", "", 13))
    handles = [plt.Line2D([], [], color=c, marker=m, ls=s, ms=ms) for c, m, s, ms in marks]
    fig.legend(
        handles,
        ["largest |rho| (coloured)", "random", "as chosen"],
        loc="outside lower center",
        ncols=3,
    )
    return Drawing(
        fig,
        alt=(
            "Success against the number of neurons, those with the largest |rho| beside random ones,"
            f" at the same norm. {described(count)}"
        ),
        caption=(
            "How many neurons? All shifts have one norm. Solid: the neurons with the largest |rho|;"
            " dashed: random ones, each moved along its own mean difference; star: as chosen on"
            " validation keys. 95 % Wilson intervals."
        ),
        name="count",
    )


def described(table: pd.DataFrame) -> str:
    """Every number of the figures in words, for readers who cannot see them."""
    parts = []
    for (direction, group), rows in table.groupby(["direction", "group"], sort=False):
        listed = (
            f"{variant_name(group, row.variant)} "
            + ("none" if pd.isna(row.success) else f"{row.success:.0%}")
            for row in rows.itertuples()
        )
        parts.append(f"{direction}, {GROUP_NAME[group]}: {', '.join(listed)}")
    return "; ".join(parts)


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """Variants for the page: names in words, rates and paired differences, intervals; else n/a."""

    def write(value, low, high, sign="") -> str:
        if pd.isna(value):
            return "n/a"
        return f"{value:{sign}.0%}" + (
            "" if pd.isna(low) else f" [{low:{sign}.0%}, {high:{sign}.0%}]"
        )

    def number(value, digits: int) -> str:
        return "n/a" if pd.isna(value) else f"{value:.{digits}f}"

    rows = [
        {
            "group": GROUP_NAME[row.group],
            "variant": variant_name(row.group, row.variant),
            "success": write(row.success, row.low, row.high),
            "difference": write(row.difference, row.difference_low, row.difference_high, "+"),
            "other": write(row.other, None, None),
            "n": row.n,
            "neurons": number(row.neurons, 0),
            "norm": number(row.norm, 2),
            "cosine": number(row.cosine, 2),
            "lambda": number(row.strength, 2),
        }
        for row in table.itertuples()
    ]
    return pd.DataFrame(rows)
