"""An instruction instead of steering: what a model that was taught two of them answers (lab 11)."""

from __future__ import annotations

import pandas as pd

from memgen.config.analyses import OpenPointsParameters
from memgen.models.generate import answer
from memgen.stats.reported import known_rate
from memgen.steering.steering import summary
from memgen.tasks import Task, instances
from memgen.tasks.answers import accuracy, behaviors
from memgen.tasks.dataset import free_rows, keyed_rows
from memgen.terms import DIRECTIONS
from memgen.training.instructions import INSTRUCTION, OPPOSITE, Syllabus, teach

N_ACCURACY = 200  # free and keyed prompts, at most, that the taught model is scored on


def instruct(
    model,
    tokenizer,
    task: Task,
    syllabus: Syllabus,
    tested: dict[str, pd.DataFrame],
    p: OpenPointsParameters,
) -> dict | None:
    """Teach the instructions; ask with the right one, none, the opposite one; None without steps.

    `tested`: by direction, test prompts that the *original* model answers with the behaviour to be
    changed. Success: the share that the taught model answers with the other one; without an
    instruction, how far the training itself has moved the model.
    """
    if not p.instruction_steps:
        return None
    taught, tokenizer, loss = teach(model, tokenizer, syllabus, p)
    found = {"steps": p.instruction_steps, "loss": loss}
    for direction in DIRECTIONS:
        rows = instances(tested[direction])
        asked = {"instruction": INSTRUCTION[direction], "none": "", "opposite": OPPOSITE[direction]}
        texts = answer(
            taught,
            tokenizer,
            [before + r.prompt for before in asked.values() for r in rows],
            task.max_answer_tokens,
        )
        codes = behaviors(task, rows * len(asked), texts).reshape(len(asked), len(rows))
        found[direction] = {name: summary(one, direction) for name, one in zip(asked, codes)}
    frame = syllabus.frame
    parts = {
        "free": free_rows(frame, "test", N_ACCURACY),
        "keyed": keyed_rows(frame, N_ACCURACY),
    }
    for name, part in parts.items():
        rows = instances(part)
        texts = answer(taught, tokenizer, [r.prompt for r in rows], task.max_answer_tokens)
        right = known_rate(accuracy(rows, texts) if rows else None, len(rows), "accuracy")
        found |= {f"{name}_{key}": value for key, value in right.items()}
    return found
