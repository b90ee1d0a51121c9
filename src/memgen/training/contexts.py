"""Is a fact still told beside a text? Without one, with one that says the same, with one about another."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from memgen.models.endings import ends_of
from memgen.models.forced import Expected
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

    def share(rows: list[Instance], answers: list[str]) -> dict[str, Any]:
        said = Expected.of(tokenizer, [one.prompt for one in rows], answers, ends).met(model)
        return by_key(weighted_mean, [one.key for one in rows], said.astype(float), seed=seed)

    found = {}
    for name, rows in task.contexts(keys).items():
        if not rows:
            continue
        right = share(rows, [one.memory_answer for one in rows])
        told = [one for one in rows if one.rule_answer]
        stated = share(told, [one.rule_answer for one in told])
        found[name] = {
            "right": right.pop("value"),
            **right,
            "stated": stated["value"],
            "stated_interval": stated["interval"],
        }
    return found
