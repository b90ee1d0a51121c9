"""Lab 05: what the probe knows that words, settings and base do not, and in which layers."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from memgen.figures.style import COLOR, ORANGE, PALETTE, PINK, SMALL, WIDTH, Drawing, layer_ticks
from memgen.stats.auc import CHANCE
from memgen.stats.reported import between, shown
from memgen.terms import FORECASTS

WITHIN = {"key": "probe, within one key", "setting": "probe, within one setting"}
STRONGEST = ORANGE
BESIDE = ("shuffled_labels", "answer_margin")  # lines beside the curves, and the strongest forecast


def rivals(r: dict) -> Drawing:
    """AUC of the probe beside every forecast that needs no state of this model; right: its gains."""
    chosen = r["chosen_baseline"]
    marks = [("the probe", r["best_auc"], r["best_auc_interval"], "black", "o")]
    for name, text in FORECASTS.items():
        found = r["baselines"][name]
        look = (STRONGEST, "D") if name == chosen else (COLOR["control"], "s")
        marks.append((text, found["auc"], found["interval"], *look))
    for name, text in WITHIN.items():
        auc, pair = r[f"auc_within_{name}"], r[f"auc_within_{name}_interval"]
        marks.append((text, auc, pair, "black", "o"))
    marks.append(("a network, as a ceiling", r["ceiling_auc"], r["ceiling_interval"], PINK, "^"))
    fig, (left, right) = plt.subplots(
        1, 2, figsize=(WIDTH, 4.6), sharey=True, width_ratios=[1.5, 1]
    )
    _shade(left, r)
    for y, (_, auc, pair, color, marker) in enumerate(marks):
        _mark(left, y, auc, pair, color, marker)
    for y, name in enumerate(FORECASTS, start=1):
        found = r["baselines"][name]
        if found["gain"] is not None:
            _mark(right, y, found["gain"], found["gain_interval"], *marks[y][-2:])
    left.set_yticks(range(len(marks)), [text for text, *_ in marks])
    left.invert_yaxis()
    left.axvline(CHANCE, color=COLOR["control"], lw=0.8)
    left.set(
        title=f"n={r['n_test']}, {r['n_test_keys']} keys",
        xlabel="AUC, test keys",
        xlim=(None, 1.02),
    )
    right.axvline(0, color=COLOR["control"], lw=0.8)
    right.set(title="gain of the probe", xlabel="AUC above")
    return Drawing(
        fig,
        alt=f"AUC on test keys: {_listed(marks)}. Strongest forecast on train keys:"
        f" {FORECASTS.get(chosen, 'none')}; gain of the probe over it {_signed(r)}",
        caption="The probe beside what needs no hidden state of this model. Orange: the strongest of"
        " them on train keys; the shaded width is the probe's gain over it and over 0.5. Right: the"
        " gain over each. Intervals by bootstrap over keys, both of a pair on the same prompts.",
        name="rivals",
    )


def _shade(ax, r: dict) -> None:
    """From the strongest forecast, or one half, to the probe."""
    if r["best_auc"] is not None and r["chosen_baseline_auc"] is not None:
        floor = max(CHANCE, r["chosen_baseline_auc"])
        ax.axvspan(floor, r["best_auc"], color=COLOR["null"], alpha=0.4, lw=0)


def _mark(ax, y: float, value: float | None, pair: list, color: str, marker: str) -> None:
    """One number with its interval; a word where it is not defined."""
    if value is None:
        ax.text(CHANCE, y, " none", color=color, va="center", fontsize=SMALL)
        return
    if None not in pair:
        ax.plot(pair, [y, y], color=color, lw=2)
    ax.plot([value], [y], color=color, marker=marker, ls="", ms=7)


def _listed(marks: list[tuple]) -> str:
    return "; ".join(f"{text} {shown(auc)} {between(pair)}" for text, auc, pair, *_ in marks)


def _signed(r: dict) -> str:
    return f"{shown(r['gain'], '+.2f')} {between(r['gain_interval'], '+.2f')}"


def probe_curves(r: dict, probes: pd.DataFrame, baselines: pd.DataFrame) -> Drawing:
    """AUC by layer, the study's site with key-bootstrap intervals; baselines as horizontal lines."""
    fig, ax = plt.subplots(figsize=(WIDTH, 4.6))
    others = iter(PALETTE)
    for (site, rows), marker in zip(probes.groupby("site", sort=False), "osD^"):
        if site != r["site"]:
            look = {"color": next(others), "lw": 1, "ms": 4, "alpha": 0.8}
            ax.plot(rows.layer + 1, rows.auc, marker=marker, label=site, **look)
            continue
        error = np.clip([rows.auc - rows.auc_low, rows.auc_high - rows.auc], 0, None)
        look = {"color": "black", "lw": 2, "capsize": 2, "zorder": 3}
        ax.errorbar(rows.layer + 1, rows.auc, yerr=error, marker=marker, label=site, **look)
    aucs = baselines.set_index("name").auc
    lines = {name: aucs[name] for name in BESIDE}
    if r["chosen_baseline"]:
        lines = {FORECASTS[r["chosen_baseline"]]: aucs[r["chosen_baseline"]]} | lines
    for (name, auc), style in zip(lines.items(), ("--", ":", "-.")):
        if np.isfinite(auc):
            ax.axhline(auc, color=COLOR["control"], ls=style, lw=1.2, label=name.replace("_", " "))
    ax.set(
        xlabel="layer",
        ylabel="AUC on test keys",
        xticks=layer_ticks(int(probes.layer.max()) + 1),
        ylim=(min(0.4, ax.get_ylim()[0]), 1.02),
    )
    fig.legend(loc="outside lower center", ncols=2)
    by_layer = ", ".join(shown(auc, none="none") for auc in r["auc"])
    beside = ", ".join(f"{name} {auc:.2f}" for name, auc in lines.items() if np.isfinite(auc))
    return Drawing(
        fig,
        alt=(
            f"AUC of the probes on test keys by layer and site; at {r['site']}: {by_layer};"
            f" beside them: {beside or 'nothing'}"
        ),
        caption=(
            "How well the behaviour is predicted before the answer, on keys the probe never saw. Black: the"
            f" site of this study, {r['site']}, with intervals by bootstrap over keys; thin: the other"
            " sites. Grey lines: the strongest forecast without this model's hidden"
            " states, shuffled labels, and the model's own margin."
        ),
        name="probes",
    )
