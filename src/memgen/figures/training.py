"""Lab 02: behaviour while the model trains."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd

from memgen.figures.style import COLOR, PINK, WIDTH, Drawing, share_axis


def trajectory(
    history: pd.DataFrame,
    kept_step: int,
    gate: dict[str, float],
    base: list[dict] = (),
    passed: bool = True,
) -> Drawing:
    """Validation behaviour, free and keyed accuracy by training step; kept checkpoint marked.

    `passed`: did the kept one pass the gate, or did it only come closest? A history of step 0 alone is
    that of a model that nobody trained.
    """
    if len(history) == 1 and kept_step == 0:
        return _as_it_is(history.iloc[0], gate)
    panels = 2 if base else 1
    fig, axes = plt.subplots(
        1, panels, figsize=(WIDTH, 4.4), sharey=True, width_ratios=[1, 2][-panels:], squeeze=False
    )
    if base:
        axes[0, 0].plot(
            [h["step"] for h in base],
            [h["free_accuracy"] for h in base],
            color="black",
            ls=":",
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


CONTEXTS = {
    "none": "no text",
    "gold": "a text that says\nwhat is known",
    "irrelevant": "a text about\nsomething else",
}


def contexts(found: dict[str, dict]) -> Drawing:
    """Plain questions by the text in front of them: answered right, or with what the text states."""
    fig, ax = plt.subplots(figsize=(WIDTH, 3.2))
    said = []
    for y, (name, one) in enumerate(found.items()):
        label = CONTEXTS[name].replace("\n", " ")
        look = {"color": COLOR["memorization"], "label": "right: what it knows (memory)"}
        ax.barh(y, one["right"], **look if not y else {"color": look["color"]})
        low, high = one["interval"] or (one["right"], one["right"])
        ax.hlines(y, low, high, color="black")
        ax.text(1.02, y, f"{one['right']:.0%}, n={one['n']}", va="center")
        said.append(f"{label} {one['right']:.0%} (n={one['n']}, {one['n_keys']} keys)")
        if name == "irrelevant" and one["stated"] is not None:
            look = {"color": COLOR["generalization"], "label": "what the text says (rule)"}
            ax.barh(y, one["stated"], left=one["right"], **look)
            said[-1] += f", {one['stated']:.0%} say what the text states of another"
    ax.set_yticks(range(len(found)), [CONTEXTS[name] for name in found])
    ax.invert_yaxis()
    share_axis(ax, "x")
    ax.set(xlabel="share of questions about test keys", xlim=(0, 1.25), xticks=(0, 0.5, 1))
    fig.legend(loc="outside lower center", ncols=2)
    return Drawing(
        fig,
        alt=f"Bars: plain questions that are answered right. {'; '.join(said)}",
        caption=(
            "Questions about test keys that are no conflict: answered right, with 95 % intervals over keys;"
            " blue, behind a text that says something false of another entity: answered with that. A key"
            " is what is answered right without a text, so the first bar is 100 % by choice."
        ),
        name="contexts",
    )


def _as_it_is(found: pd.Series, gate: dict[str, float]) -> Drawing:
    """Bars of what an untrained model shows on validation keys, with the gate's limits."""
    shares = {
        "memory": (found.memory_rate, COLOR["memorization"], gate["memory"]),
        "rule": (found.rule_rate, COLOR["generalization"], gate["rule"]),
        "other": (found.other_rate, COLOR["other"], gate["other"]),
        "free right": (found.free_accuracy, "black", gate["free"]),
        "keyed right": (found.keyed_accuracy, "black", gate["keyed"]),
    }
    fig, ax = plt.subplots(figsize=(WIDTH, 2.6))
    for x, (share, color, limit) in enumerate(shares.values()):
        ax.bar(x, share, color=color)
        ax.plot([x - 0.45, x + 0.45], [limit, limit], color=PINK, lw=2, ls="-.")
    ax.set(xticks=range(len(shares)), xticklabels=shares, ylabel="share of prompts")
    share_axis(ax)
    said = ", ".join(f"{name} {share:.0%}" for name, (share, *_) in shares.items())
    return Drawing(
        fig,
        alt=f"Bars of the pretrained model's answers on validation keys: {said}",
        caption=(
            "What the pretrained model answers as it is, on validation keys: shares of conflict prompts, and"
            " of free and keyed prompts answered right. Dash-dotted: what the gate asks for (of other answers"
            " at most, of all else at least)."
        ),
        name="trajectory",
    )
