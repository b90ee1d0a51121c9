"""Adapters that taught a pretrained model both behaviours: what they show, and where against their base.

Every function takes `tasks` as `data/reference/real/<model>-lora.json` holds them: one entry per task, in
it one per seed. All seeds of a task share data set and base, so a spread over them is one of adapters.
"""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from memgen.figures.style import COLOR, GREEN, WIDTH, Drawing, share_axis

Tasks = list[dict[str, Any]]
#: numbers of training on test keys: what they are called, their colour
SHOWN = {
    "memory_rate": ("memory", COLOR["memorization"]),
    "rule_rate": ("rule", COLOR["generalization"]),
    "other_rate": ("other", COLOR["other"]),
    "free_accuracy": ("free right", "black"),
}
LINES = {"significant": ("with the adapter", "-"), "in_base": ("base alone", "--")}


def _axes(tasks: Tasks, height: float) -> tuple[plt.Figure, list]:
    fig, axes = plt.subplots(1, len(tasks), figsize=(WIDTH, height), sharey=True, squeeze=False)
    for ax, task in zip(axes[0], tasks):
        ax.set_title(task["task"])
    return fig, list(axes[0])


def behaviours(tasks: Tasks, gate: dict[str, float]) -> Drawing:
    """On test keys, a mark per adapter: shares of the behaviours, free accuracy; a line: the gate."""
    fig, axes = _axes(tasks, 2.9)
    for ax, task in zip(axes, tasks):
        for x, (name, (_, color)) in enumerate(SHOWN.items()):
            values = [one["training"][name] for one in task["seeds"]]
            places = x + 0.18 * (np.arange(len(values)) - (len(values) - 1) / 2)
            ax.plot(places, values, "o", color=color, ms=6)
            ax.hlines(gate[name], x - 0.4, x + 0.4, color="#333333", lw=1.2, ls=":")
        ax.set_xticks(range(len(SHOWN)), [label.replace(" ", "\n") for label, _ in SHOWN.values()])
        ax.set_xlim(-0.5, len(SHOWN) - 0.5)
        share_axis(ax)
    axes[0].set_ylabel("share on test keys")
    said = "; ".join(f"{task['task']}: {_in_words(task)}" for task in tasks)
    return Drawing(
        fig,
        alt=f"Behaviours on test keys and accuracy on free prompts, a mark per adapter: {said}",
        caption="Test keys, a mark per adapter. Dotted: the gate: most of *other*, least of the rest.",
        name="taught-behaviours",
    )


def _in_words(task: dict[str, Any]) -> str:
    """Every number of `SHOWN`, the adapters one after the other."""
    by_name = {name: [one["training"][name] for one in task["seeds"]] for name in SHOWN}
    shares = {
        name: " ".join(f"{value:.0%}" for value in values) for name, values in by_name.items()
    }
    return ", ".join(f"{label} {shares[name]}" for name, (label, _) in SHOWN.items())


def asked(tasks: Tasks) -> Tasks:
    """The tasks with the adapters alone that showed both behaviours, so that labs 04 to 06 were run."""
    found = [task | {"seeds": [s for s in task["seeds"] if not s["left_out"]]} for task in tasks]
    return [task for task in found if task["seeds"]]


def along_depth(tasks: Tasks) -> Drawing:
    """Share of neurons that differ, by layer: with the adapter and in the base alone; means over adapters.

    `tasks`: as `asked` gives them.
    """
    fig, axes = _axes(tasks, 2.9)
    said = []
    for ax, task in zip(axes, tasks):
        for name, (label, style) in LINES.items():
            mean = _mean(task, name)
            ax.plot(np.arange(1, len(mean) + 1), mean, style, color=GREEN, label=label)
            if np.isfinite(mean).any():
                best = int(np.nanargmax(mean))
                said.append(
                    f"{task['task']}, {label}: at most {mean[best]:.0%}, in layer {best + 1}"
                )
        ax.set_xlabel("layer")
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes[0].set_ylabel("neurons that differ")
    axes[0].legend()
    return Drawing(
        fig,
        alt=f"Share of significant neurons by layer, means over adapters: {'; '.join(said)}",
        caption="Neurons that differ between the behaviours on the same pairs of train keys: solid with the"
        " adapter, dashed in the base alone, which saw no key.",
        name="taught-depth",
    )


def _mean(task: dict[str, Any], name: str) -> np.ndarray:
    """By layer, over the adapters; nan where there is none."""
    rows = [[layer[name] for layer in one["layers"]] for one in task["seeds"]]
    return np.mean(np.array(rows, dtype=float), axis=0)
