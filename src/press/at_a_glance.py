"""The ledger at a glance: a line per claim, its verdict on every task as a mark with a word."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from memgen.terms import CONTRADICTED, OPEN, REVERSED, SUPPORTED
from press.sentences import Judged, Ledger

#: verdicts as the page's tables show them; the word says what the mark says
MARKS = {
    SUPPORTED: "✓\u00a0for",
    CONTRADICTED: "✗\u00a0against",
    REVERSED: "⇄\u00a0reversed",
    OPEN: "○\u00a0open",
}
UNTESTED = "–\u00a0not tested"


class Line(NamedTuple):
    """A claim in the overview: the way to its details, and a mark for each column."""

    claim: Judged
    place: str
    marks: list[str]

    @property
    def link(self) -> str:
        """Its name, as a link to its details further below on the page."""
        return f"[{self.claim.name}](#{self.place})"


class Glance(NamedTuple):
    """`columns`: tasks. `groups`: the claims judged by task, by what they are about. `compared`:
    those judged on pairs or families of tasks, whose one mark names its cases.
    """

    columns: list[str]
    groups: dict[str, list[Line]]
    compared: list[Line]


def place(claim: Judged, track: str) -> str:
    """The name of a claim's details on the ledger's page: `claim-lora-steer-m2g-forbid`."""
    parts = ("claim", track, *claim.id.replace("_", "-").split("."))
    return "-".join(parts)


def at_a_glance(ledger: Ledger, tasks: list[str], track: str) -> Glance:
    """The tested claims of a track, those with a verdict on a single task by their groups."""
    by_task = {
        group: [
            Line(claim, place(claim, track), [_mark(claim.cases.get(task)) for task in tasks])
            for claim in claims
            if _of_tasks(claim, tasks)
        ]
        for group, claims in ledger.groups.items()
    }
    compared = [
        Line(claim, place(claim, track), ["; ".join(_named(claim))])
        for claim in ledger.tested
        if not _of_tasks(claim, tasks)
    ]
    return Glance(tasks, {group: lines for group, lines in by_task.items() if lines}, compared)


def _of_tasks(claim: Judged, tasks: list[str]) -> bool:
    """Is it judged on single tasks, not on pairs or families of them?"""
    return any(case in tasks for case in claim.cases)


def _named(claim: Judged) -> Iterator[str]:
    for name, case in claim.cases.items():
        yield f"{name}: {_mark(case)}"


def _mark(case: dict | None) -> str:
    return UNTESTED if case is None else MARKS[case["verdict"]]
