"""The paper's rates of steering beside this run's, like beside like.

A number of the paper that is about one task stands beside that task; one that is about all of them
beside the tasks whose answers differ in format and those whose answers look alike, apart.
"""

from __future__ import annotations

from typing import NamedTuple

from memgen.tasks.families import one_format
from memgen.terms import DIRECTIONS
from press.numbers import Numbers, percent, span
from press.sentences import between

QUANTITY = dict(zip(DIRECTIONS, ("M->G success", "G->M success"), strict=True))
WORDS = dict(zip(DIRECTIONS, ("memory to rule", "rule to memory"), strict=True))


class Beside(NamedTuple):
    """One line: what is compared, the paper's value, and ours."""

    what: str
    paper: str
    ours: str


def beside_paper(numbers: Numbers, paper: list[dict]) -> list[Beside]:
    """Every rate of steering that we know of the paper. `paper`: rows of `paper_results`."""
    found = []
    for direction, quantity in QUANTITY.items():
        for row in paper:
            if row["quantity"] == quantity:
                what = f"{WORDS[direction]} ({row['source']}, {row['task']})"
                ours = _ours(numbers, row["task"], direction)
                found.append(Beside(what, f"{row['value']} %", ours))
    return found


def _ours(numbers: Numbers, task: str, direction: str) -> str:
    if not task.startswith("all tasks"):
        return _rate(numbers, task, direction) if numbers.has(task) else "not in this run"
    groups = {
        "tagged": [one for one in numbers.tasks if not one_format(one)],
        "answers that look alike": [one for one in numbers.tasks if one_format(one)],
    }
    return "; ".join(
        f"{name} {span(numbers.success(one, direction)['success'] for one in tasks)}"
        for name, tasks in groups.items()
        if tasks
    )


def _rate(numbers: Numbers, task: str, direction: str) -> str:
    found = numbers.success(task, direction)
    ends = [found["low"], found["high"]]
    return f"{percent(found['success'])} ({between(ends, percent)})"
