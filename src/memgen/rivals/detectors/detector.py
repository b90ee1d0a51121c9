"""What a detector is: when it can be asked, what it needs, and what it says of test prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from memgen.stats.auc import roc_auc

#: before the first token of the answer is written, or after the answer is there
When = Literal["before", "after"]
#: what else the model has to answer: nothing, drawn answers to the prompt, or changed prompts
Further = Literal["nothing", "samples", "order", "content"]


@dataclass(frozen=True)
class Detector:
    """One row of the table. `source`: its key in `book/references.bib` ("": ours).

    `needs`: what it has to be given, in words. `learns`: does train data fix anything, be it only
    whether a high number speaks for the rule?
    """

    title: str
    source: str
    when: When
    needs: str
    further: Further = "nothing"
    learns: bool = True


class Found(NamedTuple):
    """What a detector says of the test prompts.

    scores: `[m]`, higher: rule; train_auc: its AUC on train keys, held out where something was
    fitted (nan: unknown); choice: what train keys chose, in words.
    """

    scores: np.ndarray
    train_auc: float
    choice: str = ""


def oriented(train: np.ndarray, labels: np.ndarray, test: np.ndarray, choice: str = "") -> Found:
    """A number per prompt, turned so that on train keys (labels `[n]`) a high one means the rule.

    train `[n]`, test `[m]`. Where train keys do not say (one behaviour, no number) it stays as it is.
    """
    auc = float(roc_auc(labels, train))
    return Found(-test, 1 - auc, choice) if auc < 0.5 else Found(test, auc, choice)


def strongest(found: dict[str, Found]) -> Found:
    """The one with the highest AUC on train keys; `choice` is its name."""
    best = max(found, key=lambda name: np.nan_to_num(found[name].train_auc))
    return found[best]._replace(choice=best)
