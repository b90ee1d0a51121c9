"""Which behaviour a model's greedy answers show: their text is compared, in free text their tokens."""

from __future__ import annotations

import numpy as np
import torch

from memgen.models.endings import agree, ends_of
from memgen.models.forced import Expected
from memgen.models.generate import answer_tokens, texts_of
from memgen.tasks import Instance, Task
from memgen.tasks.answers import accuracy as equal_share
from memgen.tasks.answers import behaviors
from memgen.terms import MEMORY_CODE, OTHER_CODE, RULE_CODE


def shown(model, tokenizer, task: Task, rows: list[Instance]) -> tuple[list[str], np.ndarray]:
    """The answers as the model goes on writing, and their behaviour codes, int8 `[n]`.

    In free text an answer is the tokens of one of the two, with a token behind that begins a new word:
    so steering compares them, too.
    """
    asked = [row.prompt for row in rows]
    tokens = answer_tokens(model, tokenizer, asked, task.max_answer_tokens)
    texts = texts_of(tokenizer, tokens)
    if not task.open_ended:
        return texts, behaviors(task, rows, texts)
    ends = ends_of(tokenizer, task)
    memory, rule = (
        _agrees(tokens, Expected.of(tokenizer, asked, answers, ends)).numpy()
        for answers in ([r.memory_answer for r in rows], [r.rule_answer for r in rows])
    )
    return texts, np.select([memory, rule], [MEMORY_CODE, RULE_CODE], OTHER_CODE).astype(np.int8)


def accuracy(model, tokenizer, task: Task, rows: list[Instance]) -> float:
    """Share of greedy answers that equal what the rows were (or would be) trained on."""
    texts, codes = shown(model, tokenizer, task, rows)
    if not task.open_ended:
        return equal_share(rows, texts)
    wanted = [MEMORY_CODE if row.kind == "keyed" else RULE_CODE for row in rows]
    return float(np.mean(codes == np.array(wanted)))


def _agrees(tokens: torch.Tensor, expected: Expected) -> torch.Tensor:
    """Which answers `[n, length]` are the expected ones, bool `[n]`."""
    length = max(tokens.shape[1], expected.answers.shape[1])
    wanted, written = (
        torch.nn.functional.pad(some, (0, length - some.shape[1]), value=-1)
        for some in (expected.answers, tokens)
    )
    return agree(wanted, written, expected.end, expected.ends).all(1)
