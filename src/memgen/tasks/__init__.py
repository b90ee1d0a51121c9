"""The tasks of the study. To add one, write a file beside these and add its class to the list."""

from typing import Any

from memgen.terms import ContrastOn

from .arithmetic import ArithmeticMatched, ArithmeticTagged
from .base import Instance, Key, Task, instances
from .cipher import CipherMatched, CipherTagged
from .given import GivenTask
from .inference import Inference
from .knowledge import Knowledge
from .table import Table

TASKS: dict[str, type[Task]] = {
    task.name: task
    for task in (ArithmeticTagged, ArithmeticMatched, Inference, CipherTagged, CipherMatched)
}
TASK_NAMES = tuple(TASKS)
#: tasks without training (track `given`); no vocabulary and no base of the study is made of them
GIVEN: dict[str, type[GivenTask]] = {task.name: task for task in (Knowledge,)}


def is_table(name: str) -> bool:
    """Is this the name of a table of prompts, `table-<name of its file>`?"""
    return name.startswith(f"{Table.name}-")


def is_given(name: str) -> bool:
    """Is this the name of a task without training?"""
    return name in GIVEN or is_table(name)


def make_task(
    name: str,
    n_keys: int,
    seed: int,
    contrast_on: ContrastOn = "keys",
    n_gate_keys: int = 0,
    **own: Any,
) -> Task:
    """Build the task called `name`. Raises `ValueError` naming the known tasks if there is none.

    `own`: what only this task takes.
    """
    known: dict[str, type[Task]] = {**TASKS, **GIVEN, **({name: Table} if is_table(name) else {})}
    if name not in known:
        raise ValueError(f"task={name!r} is unknown; choose one of {', '.join(known)}")
    return known[name](n_keys, seed, contrast_on, n_gate_keys, **own)


__all__ = [
    "GIVEN",
    "TASKS",
    "TASK_NAMES",
    "GivenTask",
    "Instance",
    "Key",
    "Table",
    "Task",
    "instances",
    "is_given",
    "is_table",
    "make_task",
]
