"""Can a task be run at all? A few of its prompts are drawn, and every text has to be in its vocabulary.

What a vocabulary lacks would become `<unk>` without a word, and a method that fails would do so after a
training. `memgen check` and `memgen labs` ask before anything is computed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from memgen.config.training import DatasetParameters
from memgen.errors import ParameterError
from memgen.tasks import TASK_NAMES, TASKS, Instance, Task, make_task
from memgen.terms import CHANGES

#: prompts that are drawn of each kind
DRAWS = 40


def refuse_unspeakable(p: DatasetParameters) -> None:
    """Raise `ParameterError` for a task of the study whose prompts this track's models cannot read."""
    if p.task not in TASKS:
        return
    task = p.make_task()
    drawn = list(_drawn(task))
    if not any(one.kind == "conflict" for one in drawn):
        raise ParameterError(
            f"task={p.task!r}: conflict() gave no prompt in {DRAWS} draws, so nothing could be asked;"
            " let it return one where memory and rule differ"
        )
    alone = p.track == "scratch"
    own = task.vocabulary() if alone else shared_pieces()
    pieces = re.compile("|".join(re.escape(one) for one in sorted(own, key=len, reverse=True)))
    whose = (
        "its vocabulary()" if alone else f"the vocabulary of the base that track={p.track} shares"
    )
    for text in (text for one in drawn for text in (one.prompt, one.target)):
        if lacking := pieces.sub("", text):
            raise ParameterError(
                f"task={p.task!r}: {whose} lacks {lacking!r} of {text!r}; add it to the task's"
                " vocabulary() and the task to the list in src/memgen/tasks/__init__.py"
            )


def shared_pieces() -> list[str]:
    """As `training.base.shared_vocabulary`, which loads torch: the pieces of all tasks."""
    every = (piece for name in TASK_NAMES for piece in make_task(name, 3, 0).vocabulary())
    return list(dict.fromkeys(every))


def _drawn(task: Task) -> Iterator[Instance]:
    """Prompts of every kind. `ParameterError`: a method of the task fails."""
    rng, keys, doing = np.random.default_rng(0), list(task.keys.values()), "free"
    try:
        for number in range(DRAWS):
            key = keys[number % len(keys)]
            doing = "free"
            found = [task.free(rng)]
            for doing in ("keyed", "contrast", "conflict"):
                found.append(getattr(task, doing)(rng, key))
            asked = found[-1]
            doing = "rephrase"
            if asked is not None:
                found += [task.rephrase(rng, asked, change) for change in CHANGES]
            yield from (one for one in found if one is not None)
    except (
        Exception
    ) as error:  # of whoever wrote the task: whatever it is, it has a name and a place
        raise ParameterError(
            f"task={task.name!r}: {doing}() fails ({type(error).__name__}: {error}); compare it with"
            " the same method in src/memgen/tasks/base.py"
        ) from None
