"""Detectors that ask again, slightly differently, and look at the answers alone.

A change of *content* asks another question about the same key: its rule's answer is another one, as a
rule, while the memory's stays. A change of *order* leaves both. What the model answers to the changed
prompts is held against its first answer (no right answer is needed), or against the right ones. That
the *first* answer is right says which behaviour it shows, in these tasks, and is never looked at.
"""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pandas as pd

from memgen.models.shown import shown
from memgen.neurons.pairs import rephrasings
from memgen.rivals.detectors.detector import Found, oriented
from memgen.stats.auc import roc_auc
from memgen.tasks import Task, instances
from memgen.tasks.answers import behaviors
from memgen.terms import CHANGES, MEMORY_CODE, RULE_CODE, Change

NEUTRAL = 0.5  # the share for a prompt that cannot be changed: neither for nor against


def changed_prompts(task: Task, rows: pd.DataFrame, n: int) -> pd.DataFrame:
    """At most `n` changed prompts of each kind for each of these: the instance's columns, and

    `row` (position in `rows`), `change`, `number` (0, 1, ... within its row and change). The first ones
    are those that lab 03 has asked, if it asked no more than `n`.
    """
    made = []
    for row, original in enumerate(instances(rows)):
        seen = {original.prompt}
        for change in CHANGES:
            for number, other in enumerate(rephrasings(task, original, change, n, seen)):
                about = {"row": row, "change": change, "number": number}
                made.append({**asdict(other), **about})
    columns = [*asdict(instances(rows)[0]), "row", "change", "number"] if len(rows) else []
    return pd.DataFrame(made, columns=columns)


def asked_again(
    model, tokenizer, task: Task, rows: pd.DataFrame, table: pd.DataFrame, known: pd.Series
) -> pd.DataFrame:
    """What the model answers to `changed_prompts`, with `unchanged`, `solved`, `same_rule`, bool.

    `known`: answers that are there already, by prompt; the others are written greedily. `unchanged`:
    the answer is that to the row's own prompt; `solved`: it is the right one, of the changed prompt;
    `same_rule`: the change left the rule's answer as it was.
    """
    fresh = table[~table.prompt.isin(known.index)].drop_duplicates("prompt")
    answers = known
    if len(fresh):
        texts, _ = shown(model, tokenizer, task, instances(fresh))
        answers = pd.concat([known, pd.Series(texts, index=list(fresh.prompt))])
    texts = list(answers.reindex(table.prompt))
    at = table.row.to_numpy(dtype=int)
    first, own = (rows[name].to_numpy()[at] for name in ("answer", "rule_answer"))
    codes = behaviors(task, instances(table), texts)
    alike = (table.memory_answer == table.rule_answer).to_numpy()
    return table.assign(
        answer=texts,
        unchanged=[text.strip() == before.strip() for text, before in zip(texts, first)],
        solved=(codes == RULE_CODE) | ((codes == MEMORY_CODE) & alike),
        same_rule=(table.rule_answer == own).to_numpy(),
    )


def shares(
    again: pd.DataFrame, n_rows: int, change: Change, what: str, most: int | None = None
) -> np.ndarray:
    """Of each row's changed prompts of this kind, how many are `what`, `[n_rows]`; none: one half.

    `most`: of the first so many alone.
    """
    asked = again[again.change == change]
    if most is not None:
        asked = asked[asked.number < most]
    found = asked.groupby("row")[what].mean().reindex(range(n_rows))
    return found.fillna(NEUTRAL).to_numpy(dtype=np.float64)


def perturbation_detectors(
    train: pd.DataFrame, test: pd.DataFrame, labels: np.ndarray, n_test: int
) -> dict[str, Found]:
    """All of this file, from what `asked_again` gave for train (labels `[n]`) and test prompts.

    What they mean is fixed beforehand: solved speaks for the rule, unchanged content against it. Only of
    an answer that stays in another order do train keys say what it speaks for.
    """
    found = {}
    for change in CHANGES:
        for what in ("solved", "unchanged"):
            old, new = (
                shares(of, n, change, what) for of, n in ((train, len(labels)), (test, n_test))
            )
            if (change, what) == ("order", "unchanged"):
                found[f"{change}_{what}"] = oriented(old, labels, new)
                continue
            sign = 1.0 if what == "solved" else -1.0
            found[f"{change}_{what}"] = Found(sign * new, float(roc_auc(labels, sign * old)))
    return found


def local_memorization(solved: np.ndarray, still: np.ndarray) -> float:
    """LiMem: accuracy times the share of solved prompts that a change breaks, [n] each; nan: no prompt.

    solved: was the prompt solved? still: the share of its changed prompts that are. Source: Xie et al.
    (2024), with the mean over several changes of a prompt.
    """
    if not len(solved):
        return float("nan")
    accuracy = float(solved.mean())
    consistent = float(still[solved].mean()) if solved.any() else 0.0
    return accuracy * (1 - consistent)
