"""What a pretrained model knows: the keys of a task that it answers rightly, without a context."""

from __future__ import annotations

import numpy as np

from memgen.models.endings import ends_of
from memgen.models.forced import Expected
from memgen.tasks import GivenTask


def known_keys(model, tokenizer, task: GivenTask) -> tuple[list[str], int]:
    """Names of the keys whose every question is answered rightly, in the task's order; of how many."""
    asked = task.asked()
    rows = [one for wordings in asked.values() for one in wordings]
    expected = Expected.of(
        tokenizer,
        [one.prompt for one in rows],
        [one.memory_answer for one in rows],
        ends_of(tokenizer, task),
    )
    right = expected.met(model)
    of_key = np.split(right, np.cumsum([len(wordings) for wordings in asked.values()])[:-1])
    return [name for name, met in zip(asked, of_key) if met.all()], len(asked)
