"""Families of tasks: variants with the same keys and prompts whose memory answers differ in format."""

from __future__ import annotations

from collections.abc import Iterable

TAGGED, MATCHED = "-tagged", "-matched"


def families(tasks: Iterable[str]) -> list[str]:
    """Families of which both variants are among the tasks, such as `cipher`."""
    tasks = list(tasks)
    found = [task.removesuffix(TAGGED) for task in tasks if not one_format(task)]
    return [family for family in found if f"{family}{MATCHED}" in tasks]


def variants(family: str) -> tuple[str, str]:
    """The tagged and the matched task of a family."""
    return f"{family}{TAGGED}", f"{family}{MATCHED}"


def one_format(task: str) -> bool:
    """Do both answers of the task look alike?"""
    return not task.endswith(TAGGED)
