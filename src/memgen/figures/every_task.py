"""Lab 8: one figure per chapter, every task beside its strongest control, with the ledger's verdict."""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from memgen.claims.beside import MAPS, RETRAINS, STEERING
from memgen.figures.style import (
    COLOR,
    DIRECTION_COLOR,
    DIRECTION_NAME,
    GREEN,
    ORANGE,
    PURPLE,
    SMALL,
    WIDTH,
    Drawing,
    share_axis,
)
from memgen.stats.reported import between
from memgen.terms import CONTRADICTED, OPEN, REVERSED, SUPPORTED

VERDICT_COLOR = {
    SUPPORTED: GREEN,
    CONTRADICTED: "#222222",
    REVERSED: PURPLE,
    OPEN: COLOR["other"],
}


@dataclass(frozen=True)
class Words:
    """What one of these figures says: above its left half, beside its mark, below it."""

    title: str
    mark: str
    caption: str


WORDS = {
    MAPS: Words(
        "neurons that differ",
        "between the behaviours",
        "Every task: do neurons differ by behaviour? Share of the neurons that the test finds, mean of"
        " layers and seeds, on the pairs of the maps; below it the larger of two controls, which the line"
        " names: pairs whose behaviour stays, and the same pairs in the base, which never saw a key.",
    ),
    STEERING: Words(
        "answers that turn",
        "top neurons",
        "Every task and direction: does moving the neurons turn the answer, and does nothing simpler turn"
        " as many? Share of test prompts that change sides within the limit, mean of the seeds; below it"
        " the strongest family of controls, which the line names.",
    ),
    RETRAINS: Words(
        "answers that turn",
        "another model's neurons",
        "Every task: do neurons of one model steer another one of the same base? Share of test prompts"
        " that change sides, mean of both directions and of the seeds; below it as many random neurons.",
    ),
}
GAIN = (
    " Right: the difference, with the interval over seeds and the verdict of the ledger's claim that"
    " is about this control."
)


def every_task(table: pd.DataFrame, claims: list[dict], about: str) -> Drawing:
    """One panel per direction (or one): what was measured, its strongest control, and the gain.

    `table`: `beside_controls`, `claims`: as judged, `about`: which rows of the table.
    """
    words, rows = WORDS[about], table[table.about == about]
    groups, tasks = list(dict.fromkeys(rows.direction)), list(dict.fromkeys(rows.task))
    height = 1.3 + len(groups) * (0.3 + 0.66 * len(tasks))
    fig, axes = plt.subplots(
        len(groups),
        2,
        figsize=(WIDTH, height),
        sharex="col",
        sharey="row",
        width_ratios=(3, 2),
        squeeze=False,
    )
    cases, said = {claim["id"]: claim["cases"] for claim in claims}, []
    for (left, right), direction in zip(axes, groups, strict=True):
        of = rows[rows.direction == direction].set_index("task")
        for y, task in zip(range(len(tasks))[::-1], tasks, strict=True):
            one = of.loc[task]
            found = cases.get(one.claim, {}).get(task)
            _levels(left, y, one, DIRECTION_COLOR.get(direction, "black"))
            if found:
                _gain(right, y, found)
            said.append(_said(f"{task} {direction}".strip(), one, found))
        _frame(left, right, tasks)
        left.set_title(DIRECTION_NAME.get(direction, ""))
    reach = max(max(map(abs, around_zero(ax))) for ax in axes[:, 1])
    axes[0, 1].set_xlim(-reach, reach)
    axes[0, 1].set_title("difference", loc="right")
    axes[-1, 0].set_xlabel(words.title)
    share_axis(axes[-1, 0], "x")
    axes[-1, 0].set_xticks((0, 0.5, 1))
    marks = (("#444444", "o", words.mark), (ORANGE, "D", "strongest control"))
    handles = [plt.Line2D([], [], color=color, marker=mark, ls="") for color, mark, _ in marks]
    fig.legend(handles, [text for *_, text in marks], loc="outside lower center", ncols=2)
    return Drawing(
        fig,
        alt=f"{words.title.capitalize()}, beside the strongest control. {'; '.join(said)}.",
        caption=words.caption + GAIN,
        name=f"every-task-{about}",
    )


def _levels(ax, y: float, one: pd.Series, color: str) -> None:
    """What was measured above its control, whose name stands below both."""
    if np.isnan(one.value):
        ax.text(0.01, y, "none in this study", va="center", fontsize=SMALL)
        return
    interval(ax, y + 0.25, one.value, (None, None), color, "o")
    interval(ax, y + 0.02, one.control, (None, None), ORANGE, "D")
    ax.text(0.0, y - 0.28, one.control_name, va="center", fontsize=SMALL)


def _gain(ax, y: float, found: dict) -> None:
    """The claim's effect with its interval, and its verdict as a word."""
    interval(ax, y, found["effect"], found["interval"], VERDICT_COLOR[found["verdict"]], "o")
    ax.text(0, y + 0.28, found["verdict"], ha="center", va="center", fontsize=SMALL)


def _frame(left, right, tasks: list[str]) -> None:
    """A line between tasks, their names, and where there is nothing."""
    for ax in (left, right):
        for line in range(1, len(tasks)):
            ax.axhline(line - 0.5, color="#DDDDDD", lw=0.8, zorder=0)
        ax.tick_params(axis="y", length=0)
    right.axvline(0, color=COLOR["control"], lw=0.8, ls=":")
    left.set_yticks(range(len(tasks))[::-1], [in_lines(task) for task in tasks])
    left.set_ylim(-0.55, len(tasks) - 0.45)


def _said(case: str, one: pd.Series, found: dict | None) -> str:
    if np.isnan(one.value):
        return f"{case}: none"
    control = "no control" if np.isnan(one.control) else f"{one.control_name} {one.control:.0%}"
    said = f"{case}: {one.value:.0%}, {control}"
    if found:
        said += f", difference {found['effect']:+.2f} {between(found['interval'])}"
        said += f", {found['verdict']}"
    return said


def interval(ax: plt.Axes, y: float, value: float | None, ends, color: str, mark: str) -> None:
    """One number with its interval; nothing where it is not defined."""
    if value is None or np.isnan(value):
        return
    if None not in ends:
        ax.plot(ends, [y, y], color=color, lw=2)
    ax.plot(value, y, mark, color=color, ms=7)


def around_zero(ax: plt.Axes) -> tuple[float, float]:
    """Limits as far to the left of zero as to the right, so that a word fits above it."""
    reach = max(map(abs, ax.get_xlim()))
    return -reach, reach


def in_lines(task: str) -> str:
    return task.replace("-", "\n")
