"""The tasks of the study. To add one, write a file beside these and add its class to the list."""

from memgen.terms import ContrastOn

from .arithmetic import ArithmeticMatched, ArithmeticTagged
from .base import Instance, Key, Task, instances
from .cipher import CipherMatched, CipherTagged
from .inference import Inference

TASKS: dict[str, type[Task]] = {
    task.name: task
    for task in (ArithmeticTagged, ArithmeticMatched, Inference, CipherTagged, CipherMatched)
}
TASK_NAMES = tuple(TASKS)


def make_task(
    name: str, n_keys: int, seed: int, contrast_on: ContrastOn = "keys", n_gate_keys: int = 0
) -> Task:
    """Build the task called `name`. Raises `ValueError` naming the known tasks if there is none."""
    if name not in TASKS:
        raise ValueError(f"task={name!r} is unknown; choose one of {', '.join(TASKS)}")
    return TASKS[name](n_keys, seed, contrast_on, n_gate_keys)


__all__ = ["TASKS", "TASK_NAMES", "Instance", "Key", "Task", "instances", "make_task"]
