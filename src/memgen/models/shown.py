"""Which behaviour a model's greedy answers show: their text is compared, in free text their tokens."""

from __future__ import annotations

import numpy as np

from memgen.models.endings import ends_of
from memgen.models.forced import Decisions, Expected, told
from memgen.models.generate import answer
from memgen.tasks import Instance, Task
from memgen.tasks.answers import accuracy as equal_share
from memgen.tasks.answers import behaviors


def shown(
    model, tokenizer, task: Task, rows: list[Instance], decisions: Decisions | None = None
) -> tuple[list[str], np.ndarray]:
    """The answers as texts, and their behaviour codes, int8 `[n]`.

    In free text nothing is written, since it would not end: the two answers are followed as steering
    follows them, and a text is as much as was seen of it (`forced.told`). There `decisions` takes what
    the passes hold at the decision position.
    """
    asked = [row.prompt for row in rows]
    if not task.open_ended:
        texts = answer(model, tokenizer, asked, task.max_answer_tokens)
        return texts, behaviors(task, rows, texts)
    ends = ends_of(tokenizer, task)
    memory, rule = (
        Expected.of(tokenizer, asked, answers, ends)
        for answers in ([r.memory_answer for r in rows], [r.rule_answer for r in rows])
    )
    codes, tokens = told(model, memory, rule, decisions)
    texts = tokenizer.batch_decode([[t for t in row if t >= 0] for row in tokens.tolist()])
    return texts, codes


def accuracy(model, tokenizer, task: Task, rows: list[Instance]) -> float:
    """Share of greedy answers that equal what the rows were (or would be) trained on."""
    if not task.open_ended:
        return equal_share(rows, shown(model, tokenizer, task, rows)[0])
    asked, targets = [row.prompt for row in rows], [row.target for row in rows]
    expected = Expected.of(tokenizer, asked, targets, ends_of(tokenizer, task))
    return float(np.mean(expected.met(model)))
