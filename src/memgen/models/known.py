"""What a pretrained model knows: the keys of a task that it answers rightly, without a context."""

from __future__ import annotations

from memgen.models.endings import ends_of
from memgen.models.forced import Expected
from memgen.tasks import GivenTask


def known_keys(model, tokenizer, task: GivenTask) -> tuple[list[str], int]:
    """Names of the keys whose every question is answered rightly, in the task's order; of how many."""
    asked, ends = task.asked(), ends_of(tokenizer, task)
    known = list(asked)
    for wording in range(max(map(len, asked.values()))):  # who fails one is not asked the next
        rows = [(name, asked[name][wording]) for name in known if wording < len(asked[name])]
        prompts, answers = ([one.prompt for _, one in rows], [one.memory_answer for _, one in rows])
        right = Expected.of(tokenizer, prompts, answers, ends).met(model)
        failed = {name for (name, _), met in zip(rows, right) if not met}
        known = [name for name in known if name not in failed]
    return known, len(asked)
