"""Figures: a table or arrays in, a matplotlib figure out. One style, one colour a behaviour,
everywhere.

The colours are Okabe and Ito's, which the colour-blind can tell apart; no figure relies on colour
alone.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd

from memgen.figures.style import COLOR, WIDTH, share_axis


def trajectory(
    history: pd.DataFrame, kept_step: int | None, gate: dict[str, float], base: list[dict] = ()
):
    """Behaviour on the validation conflict prompts, and free and keyed accuracy, against the
    training step; the kept checkpoint marked.
    """
    panels = 2 if base else 1
    fig, axes = plt.subplots(
        1, panels, figsize=(WIDTH, 3.6), sharey=True, width_ratios=[1, 2][-panels:], squeeze=False
    )
    if base:
        axes[0, 0].plot(
            [h["step"] for h in base],
            [h["free_accuracy"] for h in base],
            color=COLOR["generalization"],
            marker=".",
        )
        axes[0, 0].set(title="base: rule only", xlabel="step", ylabel="share of prompts")
    ax = axes[0, -1]
    for column, name in (
        ("memory_rate", "memorization"),
        ("rule_rate", "generalization"),
        ("other_rate", "other"),
    ):
        ax.plot(
            history.step, history[column], color=COLOR[name], marker=".", label=f"{name} (conflict)"
        )
    ax.plot(history.step, history.free_accuracy, color="black", ls=":", label="free prompts right")
    ax.plot(
        history.step, history.keyed_accuracy, color="black", ls="--", label="keyed prompts right"
    )
    if kept_step:
        ax.axvline(kept_step, color="black", lw=1)
        ax.annotate(" kept", (kept_step, 0.99), va="top")
    ax.axhspan(0, gate["other"], color=COLOR["other"], alpha=0.12, lw=0)
    ax.axhline(gate["memory"], color=COLOR["other"], lw=0.8, ls="-.")
    ax.set(
        title="training to dual behaviour", xlabel="step", ylabel="" if base else "share of prompts"
    )
    share_axis(ax)
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return fig
