"""Pairs: two prompts with the same key, one answered from memory and one by the rule."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pandas as pd

from memgen.models.generate import answer
from memgen.tasks import Task, instances
from memgen.tasks.answers import behaviors
from memgen.terms import BEHAVIORS, DIRECTIONS, GENERALIZATION, MEMORIZATION, START, TARGET


def answer_conflicts(
    model, tokenizer, task: Task, frame: pd.DataFrame, n_rephrasings: int
) -> pd.DataFrame:
    """Answer every conflict prompt and its rephrasings greedily.

    One row per prompt: the instance's columns, `answer`, `behavior`, `group` (its original) and
    `rephrasing` (0: the original). Prompts that a rephrasing repeats are kept once.
    """
    rows, group, number = [], [], []
    for index, original in enumerate(instances(frame[frame.kind == "conflict"])):
        rng = task._rng("rephrase", original.prompt)
        seen = {original.prompt}
        variants = [original]
        for _ in range(4 * n_rephrasings):
            if len(variants) > n_rephrasings:
                break
            other = task.rephrase(rng, original)
            if other is not None and other.prompt not in seen:
                seen.add(other.prompt)
                variants.append(other)
        rows += [{**asdict(v), "split": original.split} for v in variants]
        group += [index] * len(variants)
        number += range(len(variants))
    table = pd.DataFrame(rows).assign(group=group, rephrasing=number)
    texts = answer(model, tokenizer, list(table.prompt), task.max_answer_tokens)
    codes = behaviors(task, instances(table), texts)
    return table.assign(answer=texts, behavior=np.array(BEHAVIORS)[codes])


def flips(answered: pd.DataFrame) -> pd.DataFrame:
    """Pairs of one original that flip: `memory`, `rule` (row positions), `key`, `split`.

    Each row of `answered` enters at most one pair, so no difference comes twice.
    """
    return _couple(answered, (MEMORIZATION, GENERALIZATION))


def same_behavior(answered: pd.DataFrame, behavior: str) -> pd.DataFrame:
    """Pairs of one original that both show `behavior`: the null where only the prompt changes."""
    return _couple(answered, (behavior, behavior))


def _couple(answered: pd.DataFrame, wanted: tuple[str, str]) -> pd.DataFrame:
    answered = answered.reset_index(drop=True)
    found = []
    for (_, key, split), rows in answered.groupby(["group", "key", "split"], sort=False):
        first = rows.index[rows.behavior == wanted[0]].tolist()
        second = rows.index[rows.behavior == wanted[1]].tolist()
        if wanted[0] == wanted[1]:
            first, second = first[0::2], first[1::2]
        found += [(a, b, key, split) for a, b in zip(first, second)]
    return pd.DataFrame(found, columns=["memory", "rule", "key", "split"])


def rephrased(answered: pd.DataFrame) -> pd.DataFrame:
    """The rephrasings alone, with the behaviour of their originals as `before`."""
    originals = answered[answered.rephrasing == 0].set_index("group").behavior
    others = answered[answered.rephrasing > 0]
    return others.assign(before=others.group.map(originals))


def flip_rates(answered: pd.DataFrame) -> pd.DataFrame:
    """By split and behaviour of the original: how often a rephrasing turns to the opposite, with n.

    This is the floor of every steering result: what changing the words alone does.
    """
    others = rephrased(answered)
    table = []
    for split in answered.split.unique():
        for direction in DIRECTIONS:
            chosen = (others.split == split) & (others.before == START[direction])
            opposite = BEHAVIORS[TARGET[direction]]
            n, flipped = int(chosen.sum()), int((chosen & (others.behavior == opposite)).sum())
            row = {"split": split, "direction": direction, "n": n, "flipped": flipped}
            table.append(row | {"rate": flipped / n if n else 0.0})
    return pd.DataFrame(table)
