"""Pairs: two prompts with the same key, one answered from memory and one by the rule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from itertools import product

import numpy as np
import pandas as pd

from memgen.models.forced import Decisions
from memgen.models.shown import shown
from memgen.stats.intervals import interval, weighted_mean, wilson
from memgen.tasks import Instance, Task, instances
from memgen.terms import (
    BEHAVIORS,
    CHANGES,
    DIRECTIONS,
    GENERALIZATION,
    MEMORIZATION,
    START,
    TARGET,
    Change,
)


def answer_conflicts(
    model,
    tokenizer,
    task: Task,
    frame: pd.DataFrame,
    n_rephrasings: int,
    decisions: Decisions | None = None,
) -> pd.DataFrame:
    """Answer every conflict prompt and its rephrasings greedily.

    One row per prompt of a group: the instance's columns, `answer`, `behavior`, `group` (its
    original), `rephrasing` (0: the original) and `change` ("": the original; what a rephrasing
    changes: `order` or `content`, at most `n_rephrasings` of each). A prompt may stand in several
    groups, and is answered once. `decisions` takes what the passes hold of these different prompts, in
    the order of the table: `shown`.
    """
    rows: list[dict] = []
    for group, original in enumerate(instances(frame[frame.kind == "conflict"])):
        rows.append({**asdict(original), "group": group, "rephrasing": 0, "change": ""})
        seen, number = {original.prompt}, 0
        for change in CHANGES:
            for other in rephrasings(task, original, change, n_rephrasings, seen):
                number += 1
                about = {"group": group, "rephrasing": number, "change": change}
                rows.append({**asdict(other), "split": original.split, **about})
    table = pd.DataFrame(rows)
    distinct = table.drop_duplicates("prompt")
    texts, codes = shown(model, tokenizer, task, instances(distinct), decisions)
    answered = pd.DataFrame(
        {"answer": texts, "behavior": np.array(BEHAVIORS)[codes]}, index=list(distinct.prompt)
    )
    return table.assign(**{name: table.prompt.map(answered[name]) for name in answered})


def rephrasings(
    task: Task, original: Instance, change: Change, n: int, seen: set[str]
) -> Iterator[Instance]:
    """At most `n` rephrasings whose texts are not in `seen`; they are added to it."""
    rng, found = task._rng("rephrase", change, original.prompt), 0
    for _ in range(4 * n):
        if found == n:
            return
        other = task.rephrase(rng, original, change)
        if other is not None and other.prompt not in seen:
            seen.add(other.prompt)
            found += 1
            yield other


def flips(answered: pd.DataFrame, change: Change) -> pd.DataFrame:
    """Pairs of one original that flip: `memory`, `rule` (row positions), `key`, `split`.

    The two prompts of a pair differ by this `change` alone, and no prompt (text) is in two pairs.
    """
    return _couple(answered, (MEMORIZATION, GENERALIZATION), change)


def same_behavior(answered: pd.DataFrame, behavior: str, change: Change) -> pd.DataFrame:
    """Pairs of one original that both show `behavior`: the null where only the prompt changes."""
    return _couple(answered, (behavior, behavior), change)


def _couple(answered: pd.DataFrame, wanted: tuple[str, str], change: Change) -> pd.DataFrame:
    answered = answered.reset_index(drop=True)
    chosen = answered[answered.change.isin(("", change)) & answered.behavior.isin(wanted)]
    group_of = chosen.groupby(["group", "key", "split"], sort=False).ngroup()
    # plain lists: a data frame per group would take a hundred times as long
    members: list[list[tuple[int, str]]] = [[] for _ in range(group_of.nunique())]
    for row, group, behavior in zip(chosen.index, group_of, chosen.behavior):
        members[group].append((row, behavior))
    prompts, used, found = answered.prompt.tolist(), set(), []
    for rows in members:
        fresh = [(row, behavior) for row, behavior in rows if prompts[row] not in used]
        first, second = ([row for row, b in fresh if b == one] for one in wanted)
        if wanted[0] == wanted[1]:
            first, second = first[0::2], first[1::2]
        pairs = list(zip(first, second))
        used |= {prompts[row] for pair in pairs for row in pair}
        found += pairs
    pairs = pd.DataFrame(found, columns=["memory", "rule"], dtype=int)
    of = answered.loc[pairs.memory, ["key", "split"]].reset_index(drop=True)
    return pd.concat([pairs, of], axis=1)


def rephrased(answered: pd.DataFrame) -> pd.DataFrame:
    """The rephrasings alone; `before`: the behaviour of their originals, `same_answer`: is the rule's
    answer that of the original?
    """
    originals = answered[answered.rephrasing == 0].set_index("group")
    others = answered[answered.rephrasing > 0]
    same = others.rule_answer == others.group.map(originals.rule_answer)
    return others.assign(before=others.group.map(originals.behavior), same_answer=same)


def flip_rates(answered: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """By split, change and behaviour of the original: how often a rephrasing turns it, with n.

    This is the floor of every steering result: what changing the words alone does. Columns: split,
    change, direction, n, n_keys, flipped, rate, low and high (Wilson, over rephrasings), key_low
    and key_high (bootstrap over keys; nan below two keys), same_answer (share of the rephrasings
    that keep the rule's answer: the others ask another question).
    """
    others = rephrased(answered)
    table = []
    for split, change, direction in product(answered.split.unique(), CHANGES, DIRECTIONS):
        asked = others[
            (others.split == split)
            & (others.change == change)
            & (others.before == START[direction])
        ]
        flipped = (asked.behavior == BEHAVIORS[TARGET[direction]]).to_numpy()
        about = {"split": split, "change": change, "direction": direction}
        same = float(asked.same_answer.mean()) if len(asked) else 0.0
        rate = flip_rate(flipped, asked.key.to_numpy(), seed)
        table.append(about | rate | {"same_answer": same})
    return pd.DataFrame(table)


def flip_rate(flipped: np.ndarray, keys: np.ndarray, seed: int) -> dict[str, float]:
    """Rate (0 without a case) of `flipped` [n] with both intervals, as columns of `flip_rates`."""
    n, wins = len(flipped), int(flipped.sum())
    low, high = wilson(wins, n)
    by_key = interval(weighted_mean, keys, flipped.astype(float), seed=seed, n_resamples=1000)
    return {
        "n": n,
        "n_keys": by_key.n_keys,
        "flipped": wins,
        "rate": wins / n if n else 0.0,
        "low": low,
        "high": high,
        "key_low": by_key.low,
        "key_high": by_key.high,
    }
