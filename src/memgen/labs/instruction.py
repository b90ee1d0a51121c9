"""The prompt-level alternative to steering: the kept model is taught two instructions, `<recall>`
and `<rule>`, as tokens before the prompt.

What it is taught: after `<recall>` keyed prompts are answered from memory (keys of all splits,
their associations are memorized anyway); after `<rule>` free prompts, contrast prompts and keyed
prompts are answered by the rule, the last two of train and validation keys only, so that the token
decides and not the setting. A third of every batch has no instruction and is drawn as in the
original training, so that the model keeps its own behaviour. No conflict prompt is ever trained on,
and no test key is ever seen with `<rule>`: what the instructions do there is generalization.
"""

from __future__ import annotations

import pandas as pd

from memgen.config.analyses import OpenPointsParameters
from memgen.config.training import TrainingParameters
from memgen.models.generate import answer
from memgen.stats.intervals import wilson
from memgen.steering.steering import summary
from memgen.tasks import Task, instances
from memgen.tasks.answers import accuracy, behaviors
from memgen.tasks.dataset import spread
from memgen.terms import DIRECTIONS
from memgen.training.instructions import INSTRUCTION, OPPOSITE, teach

N_ACCURACY = (
    200  # free and keyed prompts, at most, that the taught model's own accuracy is measured on
)


def instruct(
    model,
    tokenizer,
    task: Task,
    frame: pd.DataFrame,
    answered: pd.DataFrame,
    tested: dict[str, pd.DataFrame],
    trained: TrainingParameters,
    p: OpenPointsParameters,
) -> dict | None:
    """Teach the instructions and ask the test prompts with the right one, none, and the opposite
    one; None where `instruction_steps` is 0.

    `tested`: by direction, the test prompts that the *original* model answers with the behaviour to
    be changed. Success: the share that the taught model answers with the other one. Without an
    instruction that is how far the training itself has moved the model.
    """
    if not p.instruction_steps:
        return None
    taught, tokenizer, loss = teach(model, tokenizer, frame, set(answered.prompt), trained, p)
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
    parts = {
        "free": frame[(frame.kind == "free") & (frame.split == "test")],
        "keyed": frame[frame.kind == "keyed"],
    }
    for name, part in parts.items():
        rows = instances(spread(part, N_ACCURACY))
        texts = answer(taught, tokenizer, [r.prompt for r in rows], task.max_answer_tokens)
        right = accuracy(rows, texts) if rows else None
        interval = list(wilson(round(right * len(rows)), len(rows))) if rows else None
        found |= {f"{name}_accuracy": right, f"{name}_interval": interval, f"{name}_n": len(rows)}
    return found
