"""The key that the home page tells its story with: what was drilled, what is asked, and both answers.

Nothing is typed by hand: prompts and answers are those of labs 01, 03 and 06 of the model that the
live page runs, and the prompt is the one that the live page shows first (`press.live_prompts`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import pandas as pd

from memgen.store.reader import FinishedRun
from memgen.tasks.dataset import spread
from memgen.terms import DIRECTIONS
from press.live_prompts import examples, first_shown, reported
from press.numbers import SPACE
from press.run import Run
from press.task_names import learned, written_alike

N_DRILLED = 2
TO_RULE = DIRECTIONS[0]  # what the story begins with is answered from memory
_DIGITS = re.compile(r"(?:^| )(\d(?: \d)*)$")


@dataclass(frozen=True)
class ToldKey:
    """A key of this run, asked where it was never drilled.

    `drilled`: prompts with the answer that was drilled; `prompt`: what is asked, and left alone is
    answered from memory; `turned`: did the study's shift turn it to the rule? `alike`: the task with the
    same keys whose two answers look alike, or ''.
    """

    task: str
    key: str
    drilled: list[tuple[str, str]]
    prompt: str
    memory: str
    rule: str
    turned: bool
    alike: str

    @property
    def learned(self) -> str:
        return learned(self.task)

    @property
    def reading(self) -> str:
        """How answers are read that are written last digit first; '' where they are not."""
        if not self.task.startswith("arithmetic"):
            return ""
        told = [read for answer in (self.memory, self.rule) if (read := _last_first(answer))]
        return f"Digits are written last first: {', '.join(told)}."


def told_key(run: Run) -> ToldKey | None:
    """The key of the home page; None where the book's live page has no prompt to be turned.

    The task is the first of the run on which the study's shift turns at least half of the answers from
    memory, or else the first of all; within it, the example that the live page begins with.
    """
    own = next((one for one in run.every if one.track == "scratch"), None)
    found = []
    for task in own.tasks if own else []:
        finished = FinishedRun(own.root / task / f"seed{own.seeds[task][0]}")
        if not finished["06_intervention"].has("outcomes.parquet"):
            continue  # the lab is older than the table, and the live page says so
        rows = reported(finished)
        prompt = first_shown(rows, examples(rows)).get(TO_RULE)
        if prompt is None:
            continue
        one = _told(
            task, own.tasks, finished.dataset(), rows[TO_RULE].set_index("prompt").loc[prompt]
        )
        if rows[TO_RULE].turned.mean() >= 0.5:
            return one
        found.append(one)
    return found[0] if found else None


def _told(task: str, tasks: list[str], frame: pd.DataFrame, asked: pd.Series) -> ToldKey:
    """`frame`: the instances of the task's data set; `asked`: the row of the prompt that is asked."""
    keyed = frame[(frame.kind == "keyed") & (frame.key == asked.key)]
    drilled = spread(keyed.drop_duplicates("prompt"), N_DRILLED)
    return ToldKey(
        task=task,
        key=asked.key.replace("|", " and "),
        drilled=[(one.prompt, one.memory_answer.strip()) for one in drilled.itertuples()],
        prompt=str(asked.name),
        memory=asked.memory_answer.strip(),
        rule=asked.rule_answer.strip(),
        turned=bool(asked.turned),
        alike=written_alike(task, tasks),
    )


def _last_first(answer: str) -> str:
    """`0 5 0 is 50` of the digits at the end of an answer, which stay on one line; '' of none."""
    found = _DIGITS.search(answer)
    return (
        f"{found[1].replace(' ', SPACE)} is {int(found[1].replace(' ', '')[::-1])}" if found else ""
    )
