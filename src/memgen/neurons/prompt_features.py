"""What can be known of a prompt without a model: its tokens, what holds which place, its setting."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from memgen.models.generate import tokenize_prompts
from memgen.tasks import Task, instances

POSITION = "position"  # the role that says where what is asked stands


@dataclass(frozen=True)
class PromptFeatures:
    """Of n prompts.

    tokens: ids `[n, T]`, padded on the left; roles: a row per prompt, columns of text (categories)
    or of numbers, as `Task.roles` names them; nearness `[n]` as `Task.nearness` measures it, None
    where the task has no settings.
    """

    tokens: np.ndarray
    roles: pd.DataFrame
    nearness: np.ndarray | None = None

    @property
    def cells(self) -> np.ndarray:
        """`[n]` texts: the last token, and the position of what is asked where the task says it."""
        last = self.tokens[:, -1].astype(str)
        places = self.roles[POSITION] if POSITION in self.roles else [""] * len(last)
        return np.array([f"{token} {place}" for token, place in zip(last, places)], dtype=str)


def prompt_features(task: Task, tokenizer, *parts: pd.DataFrame) -> list[PromptFeatures]:
    """Of each of these tables of conflict prompts, tokenized together: a column is one place."""
    prompts = [prompt for rows in parts for prompt in rows.prompt]
    ids = np.zeros((0, 1), dtype=np.int64)
    if prompts:
        ids = tokenize_prompts(tokenizer, prompts)[0].numpy()
    found, start = [], 0
    for rows in parts:
        asked = instances(rows)
        roles = pd.DataFrame([task.roles(one) for one in asked], index=range(len(asked)))
        found.append(
            PromptFeatures(
                ids[start : start + len(asked)],
                roles,
                nearness(task, rows),
            )
        )
        start += len(asked)
    return found


def nearness(task: Task, rows: pd.DataFrame) -> np.ndarray | None:
    """`Task.nearness` of a table's conflict prompts, `[n]`; None where the task has no settings."""
    near = [task.nearness(one) for one in instances(rows)]
    return np.array(near, dtype=np.float64) if near and None not in near else None


def one_hot(train_tokens: np.ndarray, test_tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A column per position and token of train, [n, columns]; a token new in test is all zeros."""
    vocabulary = [np.unique(column) for column in train_tokens.T]
    train, test = (
        np.hstack(
            [tokens[:, [position]] == seen for position, seen in enumerate(vocabulary)]
        ).astype(np.float64)
        for tokens in (train_tokens, test_tokens)
    )
    return train, test


def role_matrix(train: pd.DataFrame, test: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Roles as numbers, [n, columns]: a column per category seen in train, numbers standardised.

    Mean and spread come from train; a category new in test is all zeros.
    """
    old, new = [np.zeros((len(train), 0))], [np.zeros((len(test), 0))]
    for name in train.columns:
        # an empty test set has no columns
        columns = [train[name].to_numpy(), test.reindex(columns=train.columns)[name].to_numpy()]
        if pd.api.types.is_numeric_dtype(train[name]):
            centre, spread = columns[0].mean(), columns[0].std()
            made = [((c.astype(float) - centre) / (spread or 1.0))[:, None] for c in columns]
        else:
            seen = np.unique(columns[0].astype(str))
            made = [(c.astype(str)[:, None] == seen).astype(np.float64) for c in columns]
        old.append(made[0])
        new.append(made[1])
    return np.hstack(old), np.hstack(new)
