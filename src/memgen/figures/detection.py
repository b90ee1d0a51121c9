"""Lab 14: the detectors side by side, what the black box costs, and why it works where it does."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from memgen.figures.style import COLOR, ORANGE, WIDTH, Drawing, share_axis
from memgen.rivals.detectors.roster import BLACK_BOX, DETECTORS, PROBE
from memgen.stats.auc import CHANCE
from memgen.stats.reported import between, shown

CHANGES = {"order": "another order", "content": "other content"}
BEHAVIOR = {"memorization": "from memory", "generalization": "by the rule"}


def detectors(r: dict) -> Drawing:
    """AUC of every detector, before the answer (above) and after it; right: less the probe's."""
    names = [name for name in DETECTORS if name in r["detectors"]]
    n_before = sum(DETECTORS[name].when == "before" for name in names)
    places = [i + (i >= n_before) for i in range(len(names))]  # a gap between the two kinds
    fig, (left, right) = plt.subplots(
        1, 2, figsize=(WIDTH, 1.2 + 0.34 * len(names)), sharey=True, width_ratios=[1.3, 1]
    )
    for y, name in zip(places, names):
        one, look = r["detectors"][name], _look(name)
        _mark(left, y, one["auc"], one["interval"], look)
        if name != PROBE:
            _mark(right, y, one["difference"], one["difference_interval"], look)
    left.set_yticks(places, [_title(name, r) for name in names])
    left.invert_yaxis()
    left.axvline(CHANCE, color=COLOR["control"], lw=0.8)
    right.axvline(0, color=COLOR["control"], lw=0.8)
    for ax in (left, right):
        ax.axhline(n_before, color=COLOR["null"], lw=0.8, ls="--")
    left.set(title=f"n={r['n_test']}, {r['n_test_keys']} keys", xlabel="AUC, test keys")
    left.set_xlim(None, 1.02)
    right.set(title="less the probe's", xlabel="AUC")
    listed = "; ".join(
        f"{DETECTORS[n].title} ({DETECTORS[n].when} the answer) {_number(r['detectors'][n])}"
        for n in names
    )
    return Drawing(
        fig,
        alt=f"AUC of the detectors on test keys: {listed}. Unchanged content less the probe:"
        f" {_difference(r['detectors'][BLACK_BOX])}",
        caption="Memory or rule? Above the dashed line: detectors that can be asked before the answer is"
        " written; below it: those that come after it. In brackets: further answers that one costs a"
        " prompt. Black: needs hidden states. Orange: needs nothing but the answers. Right: the"
        " difference to the probe, on the same prompts. Intervals by bootstrap over keys.",
        name="detectors",
    )


def _title(name: str, r: dict) -> str:
    further = r["detectors"][name]["further"]
    return DETECTORS[name].title + (f" ({further:.0f})" if further else "")


def _look(name: str) -> tuple[str, str]:
    if name == BLACK_BOX:
        return ORANGE, "D"
    if DETECTORS[name].needs.startswith("hidden states"):
        return "black", "o"
    return COLOR["control"], "s"


def _mark(ax, y: float, value: float | None, pair: list, look: tuple[str, str]) -> None:
    """One number with its interval; a word where it is not defined."""
    color, marker = look
    if value is None:
        ax.text(0.5, y, "none", transform=ax.get_yaxis_transform(), va="center", color=color)
        return
    if None not in pair:
        ax.plot(pair, [y, y], color=color, lw=2)
    ax.plot([value], [y], color=color, marker=marker, ls="", ms=7)


def _number(one: dict) -> str:
    return f"{shown(one['auc'])} {between(one['interval'])}"


def _difference(one: dict) -> str:
    return f"{shown(one['difference'], '+.2f')} {between(one['difference_interval'], '+.2f')}"


def price(r: dict) -> Drawing:
    """AUC of the black box by further prompts; beside it the probe and CDD, which have their price."""
    curve = [one for one in r["price"] if one["auc"] is not None]
    fig, ax = plt.subplots(figsize=(WIDTH, 3.9))
    ks = np.arange(1, len(r["price"]) + 1)
    if curve:
        values = np.array([one["auc"] for one in curve])
        known = np.array(
            [one["interval"] if None not in one["interval"] else [one["auc"]] * 2 for one in curve]
        )
        error = np.clip([values - known[:, 0], known[:, 1] - values], 0, None)
        look = {"color": ORANGE, "marker": "D", "capsize": 2}
        ax.errorbar(ks[: len(curve)], values, yerr=error, label=DETECTORS[BLACK_BOX].title, **look)
    probe, peaked = r["detectors"][PROBE], r["detectors"]["peakedness"]
    for one, color, style, text in (
        (probe, "black", "-", f"{DETECTORS[PROBE].title}: no further answer"),
        (peaked, COLOR["control"], ":", f"CDD: {r['n_samples']} further answers"),
    ):
        if one["auc"] is not None:
            ax.axhline(one["auc"], color=color, ls=style, lw=1.5, label=text)
    if None not in probe["interval"]:
        ax.axhspan(*probe["interval"], color=COLOR["null"], alpha=0.3, lw=0)
    ax.axhline(CHANCE, color=COLOR["control"], lw=0.8)
    ax.set(xlabel="further prompts with other content", ylabel="AUC, test keys", xticks=ks)
    ax.set(xlim=(0.7, len(ks) + 0.3), ylim=(min(0.4, ax.get_ylim()[0]), 1.02))
    fig.legend(loc="outside lower center", ncols=1)
    listed = ", ".join(f"{k}: {_number(one)}" for k, one in zip(ks, r["price"]))
    return Drawing(
        fig,
        alt=f"AUC of 'unchanged with other content' by number of further prompts: {listed}; the probe"
        f" {_number(probe)}; CDD {_number(peaked)}",
        caption="What a look at the answers costs. Each further prompt is one more answer of the model,"
        " after the first. Grey band: the probe's interval; it needs no further answer, but hidden"
        " states and labels. Intervals by bootstrap over keys.",
        name="price",
    )


def stays(r: dict) -> Drawing:
    """By kind of change and first behaviour: how many answers stay as they were, and are right."""
    fig, axes = plt.subplots(1, 2, figsize=(WIDTH, 3.9), sharey=True)
    told = []
    for ax, (change, title) in zip(axes, CHANGES.items()):
        found = r["changes"][change]
        for x, (behavior, text) in enumerate(BEHAVIOR.items()):
            for shift, what, hatch in ((-0.2, "unchanged", ""), (0.2, "solved", "//")):
                value, pair = (found[f"{what}_{behavior}{end}"] for end in ("", "_interval"))
                told.append(f"{title}, {text}: {what} {shown(value, '.0%')}")
                if value is None:
                    continue
                look = {"color": COLOR[behavior], "hatch": hatch, "edgecolor": "white"}
                ax.bar(x + shift, value, 0.38, **look)
                if None not in pair:
                    ax.plot([x + shift] * 2, pair, color="black", lw=1.5)
        ax.set_xticks(range(len(BEHAVIOR)), [f"first answer\n{t}" for t in BEHAVIOR.values()])
        ax.set(title=f"{title} (n={found['n']})")
        share_axis(ax)
    axes[0].set_ylabel("share of the changed prompts")
    fig.legend(
        [plt.Rectangle((0, 0), 1, 1, fc="white", ec="black", hatch=h) for h in ("", "//")],
        ["answer as before", "right by the rule"],
        loc="outside lower center",
        ncols=2,
    )
    return Drawing(
        fig,
        alt="Answers to changed prompts: " + "; ".join(told),
        caption="The prompt is changed and asked again. A detector that needs no right answer works as far"
        " as the plain bars of memory and of rule differ. Bars: means over test prompts; black lines:"
        " intervals by bootstrap over keys.",
        name="stays",
    )


def separation(table: pd.DataFrame) -> Drawing:
    """Unchanged answers by behaviour: how many of the changed prompts keep it. table: `scores`."""
    fig, ax = plt.subplots(figsize=(WIDTH, 2.9))
    kept = (-table[BLACK_BOX]).round(6) + 0.0  # no minus before zero
    values = sorted(kept.unique())
    told = []
    for i, (behavior, text) in enumerate(BEHAVIOR.items()):
        mine = kept[table.label == i]
        found = [float((mine == v).mean()) if len(mine) else 0.0 for v in values]
        x = np.arange(len(values)) + 0.4 * (i - 0.5)
        ax.bar(x, found, 0.38, color=COLOR[behavior], label=f"{text} (n={len(mine)})")
        told.append(f"{text} (n={len(mine)}): " + ", ".join(f"{s:.0%}" for s in found))
    ax.set_xticks(range(len(values)), [f"{v:.0%}" for v in values])
    ax.set(xlabel="changed prompts with the same answer", ylabel="share of prompts")
    share_axis(ax)
    fig.legend(loc="outside lower center", ncols=2)
    shares = ", ".join(f"{v:.0%}" for v in values)
    return Drawing(
        fig,
        alt=f"Share of prompts by how many changed ones ({shares}) keep the answer. "
        + "; ".join(told),
        caption="Each test prompt was asked again with other content. An answer that stays although the"
        " question changed was not worked out from it.",
        name="separation",
    )
