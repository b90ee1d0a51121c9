"""Lab 02: behaviour while the model trains."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd

from memgen.figures.style import COLOR, WIDTH, Drawing, share_axis


def trajectory(
    history: pd.DataFrame,
    kept_step: int,
    gate: dict[str, float],
    base: list[dict] = (),
    passed: bool = True,
) -> Drawing:
    """Validation behaviour, free and keyed accuracy by training step; kept checkpoint marked.

    `passed`: did the kept one pass the gate, or did it only come closest?
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
    ax.axvline(kept_step, color="black", lw=1)
    ax.annotate(" kept" if passed else " closest", (kept_step, 0.99), va="top")
    ax.axhspan(0, gate["other"], color=COLOR["other"], alpha=0.12, lw=0)
    ax.axhline(gate["memory"], color=COLOR["other"], lw=0.8, ls="-.")
    ax.set(
        title="training to dual behaviour", xlabel="step", ylabel="" if base else "share of prompts"
    )
    share_axis(ax)
    fig.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return Drawing(
        fig,
        alt=(
            "Shares of memorization, generalization and other answers on validation conflict"
            " prompts by training step, with the accuracy on free and keyed prompts; "
            + ("" if passed else "no checkpoint passed the gate, ")
            + f"the {'kept checkpoint' if passed else 'closest'} is at step {kept_step}"
        ),
        caption=(
            "Behaviour on the conflict prompts of validation keys while the model trains. Shaded:"
            " the largest share of other answers that the gate allows; dash-dotted: the least"
            " share of each behaviour."
        ),
        name="trajectory",
    )
