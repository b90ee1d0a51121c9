"""An instruction instead of steering: what a model that was taught two of them answers (lab 11)."""

from __future__ import annotations

import pandas as pd

from memgen.config.analyses import OpenPointsParameters
from memgen.models.forced import Expected, behaviors_met
from memgen.stats.reported import known_rate
from memgen.steering.steering import summary
from memgen.tasks import instances
from memgen.tasks.dataset import free_rows, keyed_rows
from memgen.terms import DIRECTIONS
from memgen.training.instructions import INSTRUCTION, OPPOSITE, Syllabus, teach

N_ACCURACY = 200  # free and keyed prompts, at most, that the taught model is scored on


def instruct(
    model,
    tokenizer,
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
    taught, tokenizer, known = teach(model, tokenizer, syllabus, p)
    found: dict = dict(known)
    for direction in DIRECTIONS:
        rows = tested[direction]
        asked = {"instruction": INSTRUCTION[direction], "none": "", "opposite": OPPOSITE[direction]}
        prompts = [before + prompt for before in asked.values() for prompt in rows.prompt]
        memory, rule = (
            Expected.of(tokenizer, prompts, list(answers) * len(asked))
            for answers in (rows.memory_answer, rows.rule_answer)
        )
        codes = behaviors_met(taught, memory, rule).reshape(len(asked), len(rows))
        found[direction] = {name: summary(one, direction) for name, one in zip(asked, codes)}
    frame = syllabus.frame
    parts = {
        "free": free_rows(frame, "test", N_ACCURACY),
        "keyed": keyed_rows(frame, N_ACCURACY),
    }
    for name, part in parts.items():
        targets = [r.target for r in instances(part)]
        met = Expected.of(tokenizer, list(part.prompt), targets).met(taught)
        right = known_rate(float(met.mean()) if len(met) else None, len(met), "accuracy")
        found |= {f"{name}_{key}": value for key, value in right.items()}
    return found
