"""Lab 01: the data set. What it promises, checked on the file that training will read."""

from __future__ import annotations

import pandas as pd

from memgen.config.training import DatasetParameters
from memgen.errors import InapplicableError
from memgen.models.known import known_keys
from memgen.models.load import find_base, load_model
from memgen.tasks import GivenTask, Task
from memgen.terms import KINDS, SPLITS


def composition(frame: pd.DataFrame) -> pd.DataFrame:
    """How many instances there are, by kind (rows) and split (columns)."""
    counts = frame.groupby(["kind", "split"]).size().unstack(fill_value=0)[list(SPLITS)]
    return counts.loc[[kind for kind in KINDS if kind in counts.index]]


def checks(frame: pd.DataFrame) -> dict[str, bool]:
    """What a data set must hold, by sentence."""
    by_key = frame.kind.isin(["keyed", "contrast"])
    trained = frame[by_key | ((frame.kind == "free") & (frame.split == "train"))]
    conflict, keyed = frame[frame.kind == "conflict"], frame[frame.key != ""]
    return {
        "no conflict prompt is trained on": not set(conflict.prompt) & set(trained.prompt),
        "no prompt occurs twice": frame.prompt.is_unique,
        "every key lies in one split": bool((keyed.groupby("key").split.nunique() == 1).all()),
        "memory and rule differ on every conflict prompt": bool(
            (conflict.memory_answer != conflict.rule_answer).all()
        ),
    }


def known_to(p: DatasetParameters) -> tuple[Task, dict]:
    """The task of these parameters, and what the result says of its keys.

    On track given the pretrained model is asked first, and the keys are what it knows: `known`, their
    names, of `n_asked`. Errors: `InapplicableError` if these are too few.
    """
    task = p.make_task()
    if not isinstance(task, GivenTask):
        return task, {}
    model, tokenizer = load_model(find_base(p.base_model), p.attention, p.loaded_dtype, p.device)
    known, n = known_keys(model, tokenizer, task)
    print(f"base_model={p.base_model} knows {len(known)} of {n} keys in every wording", flush=True)
    try:
        task.keep(known)
        task.split_keys(tuple(p.key_shares))
    except ValueError as error:
        raise InapplicableError(f"task {p.task}, base_model={p.base_model}: {error}") from None
    return task, {"known": known, "n_known": len(known), "n_asked": n}
