"""Is a fact still told beside a text? Without one, with one that says the same, with one about another."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from memgen.models.endings import ends_of
from memgen.models.forced import Expected, both_met
from memgen.stats.intervals import weighted_mean
from memgen.stats.reported import by_key
from memgen.tasks import GivenTask, Instance


def in_contexts(
    model, tokenizer, task: GivenTask, keys: Collection[str], seed: int
) -> dict[str, dict[str, Any]]:
    """By context (`GivenTask.contexts`) of questions about these keys; {}: the task has none.

    right, interval: share that is answered with what is known, over keys; n, n_keys; stated,
    stated_interval: share that is answered with what the text states (None: there is none).
    """
    ends = ends_of(tokenizer, task)

    def expected(rows: list[Instance], answers: list[str]) -> Expected:
        return Expected.of(tokenizer, [one.prompt for one in rows], answers, ends)

    def share(rows: list[Instance], said: np.ndarray) -> dict[str, Any]:
        return by_key(weighted_mean, [one.key for one in rows], said.astype(float), seed=seed)

    found = {}
    for name, rows in task.contexts(keys).items():
        if not rows:
            continue
        told = [one for one in rows if one.rule_answer]
        if told == rows:  # both answers are looked for in one pass
            answers = [one.memory_answer for one in rows], [one.rule_answer for one in rows]
            known, text = both_met(model, *(expected(rows, of) for of in answers))
        else:
            known = expected(rows, [one.memory_answer for one in rows]).met(model)
            text = expected(told, [one.rule_answer for one in told]).met(model)
        right, stated = share(rows, known), share(told, text)
        found[name] = {
            "right": right.pop("value"),
            **right,
            "stated": stated["value"],
            "stated_interval": stated["interval"],
        }
    return found
