"""Lab 12: a map of what takes the behaviour with it, what is lost without neurons, units in their place."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from memgen.figures.style import (
    COLOR,
    DIRECTION_COLOR,
    PANEL_NAME,
    SHARE_MAP,
    SMALL,
    WIDTH,
    Drawing,
    on_share,
    say_ends,
    share_axis,
)
from memgen.terms import BEHAVIORS, DIRECTIONS, OTHER

KIND_NAME = {
    "residual": "residual stream",
    "residual_all": "all positions",
    "attention": "attention",
    "mlp": "MLP",
    "head": "head",
    "position": "position",
}
COLUMN = {"residual": "resid", "residual_all": "all pos.", "attention": "attn", "mlp": "MLP"}
UNIT_BARS = {
    "units": "MLP units",
    "residual": "coordinates",
    "same_norm": "random units,\nsame norm",
    "cumulative": "random units,\nsame sum",
}

BOXED = {"ha": "center", "va": "center", "bbox": {"facecolor": "white", "lw": 0.4, "pad": 1.0}}


def _panels(height: float):
    return plt.subplots(1, len(DIRECTIONS), figsize=(WIDTH, height), sharey=True)


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.0%}"


def _range(x: dict, name: str = "success") -> str:
    ends = x.get("interval")
    return _percent(x[name]) + (f" [{ends[0]:.0%}, {ends[1]:.0%}]" if ends else "")


# -- maps ------------------------------------------------------------------------------------------
def part_map(r: dict) -> Drawing:
    """Flip rates of test pairs, layer by part; boxed numbers: the rank on train pairs."""
    names = [*COLUMN.values(), *(f"h{head + 1}" for head in range(r["n_head"]))]
    fig, axes = plt.subplots(
        len(DIRECTIONS), 1, figsize=(WIDTH, 1.6 + 2 * len(DIRECTIONS) * (0.2 + 0.22 * r["n_layer"]))
    )
    said = []
    for ax, direction in zip(axes, DIRECTIONS):
        x, rates = r[direction], r[direction]["test"]
        _title(ax, direction, x)
        if not rates:
            continue
        columns = [*(rates[kind] for kind in COLUMN), *np.transpose(rates["head"])]
        _heat(ax, np.transpose(columns), names)
        for rank, part in enumerate(x["small"], start=1):
            column = _column(part)
            ax.text(column + 0.33, part["layer"] - 0.72, rank, fontsize=SMALL, **BOXED)
        said.append(f"{direction}, by layer from the first: {_listed(rates)}")
    _say_scale(fig, axes)
    return Drawing(
        fig,
        alt=(
            "Heat maps, a panel per direction: share of test pairs whose answer turns to the source's"
            f" behaviour when one part is patched. {'; '.join(said) or 'No pairs'}"
        ),
        caption=(
            "One part of a run replaced by that of the pair's other prompt, at the decision position"
            " (*all pos.*: the residual stream at every position). Share of pairs of test keys that"
            " turn to the source's behaviour. Boxed numbers: the rank of heads (h), attention and MLP"
            " layers on pairs of train keys."
        ),
        name="parts",
    )


def _column(part: dict) -> int:
    kinds = list(COLUMN)
    return len(kinds) + part["head"] - 1 if part["kind"] == "head" else kinds.index(part["kind"])


def _title(ax, direction: str, x: dict) -> None:
    name = PANEL_NAME[direction].replace("\n", " ")
    ax.set_title(f"{name} (n = {x['n']}, {x['n_keys']} keys)", fontsize=SMALL)


def _heat(ax, values: np.ndarray, names: list[str]):
    """Rows are layers, the first at the bottom; every cell holds its number (of many columns: above 0)."""
    image = ax.imshow(values, aspect="auto", cmap=SHARE_MAP, vmin=0, vmax=1, origin="lower")
    for (i, j), value in np.ndenumerate(values):
        looks = {"ha": "center", "va": "center", "fontsize": SMALL, "color": on_share(value)}
        if len(names) <= 14 or value >= 0.005:
            ax.text(j, i, f"{100 * value:.0f}", **looks)
    ax.set_xticks(range(len(names)), names, fontsize=SMALL)
    ax.set_yticks(range(len(values)), range(1, len(values) + 1))
    ax.set_ylabel("layer")
    return image


def _say_scale(fig, axes) -> None:
    """One colour bar for all panels, whose cells hold per cent."""
    image = plt.cm.ScalarMappable(plt.Normalize(0, 1), SHARE_MAP)
    words = ("no answer turns", "all turn to the source's behaviour")
    say_ends(fig, image, axes, *words, ticks=[0, 1], format="{x:.0%}")


def _listed(rates: dict) -> str:
    parts = [
        f"{KIND_NAME[kind]} {', '.join(map(_percent, rates[kind]))}"
        for kind in ("residual", "residual_all", "attention", "mlp")
    ]
    best = [max(heads) for heads in rates["head"]]
    return ", ".join(parts) + f", highest of the heads {', '.join(map(_percent, best))}"


def position_map(r: dict) -> Drawing:
    """Flip rates of test pairs, layer by position: the residual stream at one position alone."""
    height = 1.6 + 2 * (0.9 + 0.27 * r["n_layer"])
    fig, axes = plt.subplots(len(DIRECTIONS), 1, figsize=(WIDTH, height))
    said = []
    for ax, direction in zip(axes, DIRECTIONS):
        x, rates = r[direction], r[direction]["test"]
        _title(ax, direction, x)
        if not rates or not rates["position"]:
            continue
        before = np.array(rates["position"])[:, ::-1]  # the first token first
        values = np.column_stack([before, rates["residual"][: len(before)]])
        _heat(ax, values, [str(-back) for back in range(values.shape[1], 0, -1)])
        listed = ", ".join(map(_percent, before.max(axis=0, initial=0)))
        said.append(f"{direction}, highest over layers by position, first token first: {listed}")
    axes[-1].set_xlabel("position from the end")
    _say_scale(fig, axes)
    return Drawing(
        fig,
        alt=(
            "Heat maps: share of test pairs that turn when the residual stream is patched after one"
            f" layer at one position. {'; '.join(said) or 'No pairs'}"
        ),
        caption=(
            "The residual stream after a layer, patched at one position alone (after the last layer"
            " nothing reads the earlier positions). At -1, the decision"
            " position, both prompts of a pair hold the same token; before it they hold the same"
            " tokens in another order, so a patch there moves words as well."
        ),
        name="positions",
    )


# -- confirmed -------------------------------------------------------------------------------------
def confirmed_table(r: dict) -> pd.DataFrame:
    """The parts chosen on train pairs: their rates there, on test pairs, and with other sources."""
    rows = []
    for direction in DIRECTIONS:
        x = r[direction]
        for choice, parts in (("best", x["best"].values()), ("rank", x["small"])):
            for place, part in enumerate(parts, start=1):
                rows.append(_confirmed(direction, choice, place, part))
    return pd.DataFrame(rows)


def _confirmed(direction: str, choice: str, place: int, part: dict) -> dict:
    foreign = {
        name.replace("_", " "): _percent(found["success"])
        + ("" if name == "same_behavior" else f" ({_percent(found['source_answer'])})")
        for name, found in part["controls"].items()
    }
    return {
        "direction": direction,
        "chosen as": f"best {KIND_NAME[part['kind']]}" if choice == "best" else f"rank {place}",
        "part": f"{KIND_NAME[part['kind']]}: {part['name']}",
        "train": _percent(part["train"]),
        "test": _range(part),
        "other": _percent(part["other"]),
        "n": part["n"],
        "keys": part["n_keys"],
        "margin": "n/a" if part["recovered"] is None else f"{part['recovered']:.0%}",
        **foreign,
    }


# -- necessity and units ---------------------------------------------------------------------------
def necessity_bars(r: dict) -> Drawing:
    """What answers become with a direction's neurons at their mean, beside random neurons."""
    fig, axes = plt.subplots(2, 2, figsize=(WIDTH, 5.2), sharey=True)
    said = []
    for row, positions in zip(axes, ("decision", "all")):
        for ax, direction in zip(row, DIRECTIONS):
            found = r[direction]["necessity"]
            here = {name: found[positions][name] for name in BEHAVIORS if name != OTHER}
            count = sum(found["neurons"])
            ax.set_title(f"{direction}: {count} neurons\n{_where(positions)}", fontsize=SMALL)
            _stacks(ax, here)
            said += [
                f"{direction}, {_where(positions)}, answers of {name}: kept {_percent(x['kept'])}, changed"
                f" {_percent(x['changed'])}, other {_percent(x['other'])}; with random neurons kept"
                f" {_percent(x['random_kept'])} (n {x['n']})"
                for name, x in here.items()
            ]
            share_axis(ax)
    marks = [plt.Rectangle((0, 0), 1, 1, color=COLOR[name]) for name in BEHAVIORS]
    fig.legend(marks, list(BEHAVIORS), loc="outside lower center", ncols=3)
    return Drawing(
        fig,
        alt=f"Stacked bars of the behaviours of test prompts with neurons at their mean. {'; '.join(said)}",
        caption=(
            "The neurons that lab 06 chose for a direction are set to their mean over conflict prompts"
            " of train keys. Test prompts that the model answers from memory (M) and by the rule (G):"
            " what they are answered then, beside as many random neurons in the same layers. Marks:"
            " 95 % intervals of what is kept, over keys (random: and over draws)."
        ),
        name="necessity",
    )


def _where(positions: str) -> str:
    return "decision position" if positions == "decision" else "all positions"


def _stacks(ax, here: dict[str, dict]) -> None:
    """For each behaviour two bars, chosen and random neurons: kept, then changed, then other."""
    ticks = []
    for i, (name, x) in enumerate(here.items()):
        opposite = next(other for other in here if other != name)
        for j, prefix in enumerate(("", "random_")):
            place, bottom = 2.4 * i + j, 0.0
            for share, color in (("kept", name), ("changed", opposite), ("other", OTHER)):
                height = x[prefix + share] or 0.0
                ax.bar(place, height, bottom=bottom, color=COLOR[color], width=0.85)
                bottom += height
            interval = x[f"{prefix}kept_interval"]
            if interval:
                ax.plot([place, place], interval, color="black", lw=1.5)
            ticks.append((place, name[0].upper() + ("\nrandom" if prefix else "")))
    ax.set_xticks(*map(list, zip(*ticks)), fontsize=SMALL)


def unit_bars(r: dict) -> Drawing:
    """Success of MLP units, of lab 06's coordinates and of random units on the same prompts."""
    fig, axes = _panels(3.8)
    said = []
    for ax, direction in zip(axes, DIRECTIONS):
        x = r[direction]["units"]
        bars = {"units": x, "residual": x["residual"], **x["random"]}
        for place, (name, found) in enumerate(bars.items()):
            color = COLOR["control"] if name in x["random"] else DIRECTION_COLOR[direction]
            solid = name == "units"
            ax.bar(place, found["success"] or 0, color=color, alpha=1 if solid else 0.6)
            if found["interval"]:
                ax.plot([place, place], found["interval"], color="black", lw=1.5)
            ax.plot(place, found["other"] or 0, marker="x", color="black", ls="")
            words = UNIT_BARS[name].replace("\n", " ")
            said.append(
                f"{direction}, {words}: {_range(found)}, other {_percent(found['other'])}, n {found['n']}"
            )
        ax.set_xticks(
            range(len(bars)), [UNIT_BARS[name] for name in bars], fontsize=SMALL, rotation=60
        )
        ax.set_title(f"{PANEL_NAME[direction]}\nn = {x['n']}", fontsize=SMALL)
        share_axis(ax)
    axes[0].set_ylabel("change sides")
    return Drawing(
        fig,
        alt=f"Bars with intervals: share of test prompts that change sides. {'; '.join(said)}",
        caption=(
            "Hidden units of the feed-forward parts, chosen and tuned as the coordinates of the residual"
            " stream were, beside lab 06's shift on the same test prompts, and random units of the same"
            " layers that write as much: layer by layer, or in sum. Crosses: the share of *other*"
            " answers. 95 % intervals over keys (random: and over draws)."
        ),
        name="units",
    )
