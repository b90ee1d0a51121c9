"""Recall and reason in one text: two prompts, the first with its answer (lab 11)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from memgen.models.generate import answer, decode
from memgen.models.sites import bare
from memgen.stats.reported import rate
from memgen.steering.unsteered import ROWS
from memgen.tasks import Task, instances
from memgen.tasks.dataset import spread

COMBINATIONS = {
    "recall_then_reason": ("keyed", "free"),
    "reason_then_recall": ("free", "keyed"),
    "reason_then_reason": ("free", "free"),
    "recall_then_recall": ("keyed", "keyed"),
}


def hybrid(model, tokenizer, task: Task, frame: pd.DataFrame, limit: int, seed: int) -> dict:
    """Two prompts in one text, the first with its answer: is the second answered as it is alone?

    keyed: prompts of test keys, answered from memory; free: test prompts, answered by the rule.
    Beside the two hybrids stand texts of one kind only: as unlike the training, but asking for
    one behaviour. Texts beyond the model's positions are left out.
    """
    rng = np.random.default_rng([seed, 2])
    tested = frame[frame.split == "test"]
    parts = {
        "keyed": tested[(tested.kind == "keyed") & (tested.key != "")],
        "free": tested[tested.kind == "free"],
    }
    parts = {
        name: instances(spread(part, limit).sample(frac=1, random_state=rng.integers(2**32)))
        for name, part in parts.items()
    }
    room = bare(model).config.max_position_embeddings - task.max_answer_tokens
    alone = {
        name: [
            text.strip() == row.target.strip()
            for row, text in zip(
                rows, answer(model, tokenizer, [r.prompt for r in rows], task.max_answer_tokens)
            )
        ]
        for name, rows in parts.items()
    }
    result = {}
    for name, (first, second) in COMBINATIONS.items():
        n = min(len(parts[first]), len(parts[second]))
        index = (
            np.roll(np.arange(n), 1) if first == second else np.arange(n)
        )  # not the same prompt twice
        texts = [_joined(tokenizer, parts[first][i], parts[second][j]) for j, i in enumerate(index)]
        fitting = [
            j for j, ids in enumerate(texts) if len(ids) <= room and (first != second or n > 1)
        ]
        right = _answers(
            [texts[j] for j in fitting],
            [parts[second][j].target for j in fitting],
            model,
            tokenizer,
            task.max_answer_tokens,
        )
        result[name] = {
            **rate(right, "accuracy"),
            "alone": rate([alone[second][j] for j in fitting], "accuracy"),
            "n_too_long": sum(len(ids) > room for ids in texts),
            "tokens": max((len(texts[j]) for j in fitting), default=None),
        }
    return result


def _joined(tokenizer, first, second) -> list[int]:
    """Token ids of the first prompt, its answer, the end mark, and the second prompt."""
    answered, asked = (
        tokenizer(text, add_special_tokens=False)["input_ids"]
        for text in (first.target, second.prompt)
    )
    return tokenizer(first.prompt)["input_ids"] + answered + [tokenizer.eos_token_id] + asked


def _answers(
    texts: list[list[int]], targets: list[str], model, tokenizer, max_new_tokens: int
) -> list[bool]:
    """Is each text, given as token ids, continued with its target?"""
    right: list[bool] = []
    for start in range(0, len(texts), ROWS):
        batch = texts[start : start + ROWS]
        width = max(map(len, batch))
        ids = torch.tensor(
            [[tokenizer.pad_token_id] * (width - len(row)) + row for row in batch],
            device=model.device,
        )
        mask = torch.tensor(
            [[0] * (width - len(row)) + [1] * len(row) for row in batch], device=model.device
        )
        for row, target in zip(
            decode(model, tokenizer, ids, mask, max_new_tokens).tolist(),
            targets[start : start + ROWS],
        ):
            right.append(
                tokenizer.decode([t for t in row if t not in (-1, tokenizer.eos_token_id)]).strip()
                == target.strip()
            )
    return right
