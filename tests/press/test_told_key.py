"""The key of the home page is one of the run, chosen by the live page's rule; what is said of it is so."""

from __future__ import annotations

from types import SimpleNamespace

import pandas as pd
import pytest
from test_live import make_run, seal

from memgen.store.reader import FinishedRun
from press.live_prompts import examples, first_shown, reported
from press.told_key import N_DRILLED, told_key

BOTH = ["arithmetic-tagged", "arithmetic-matched"]


def run_of(root, tasks, track="scratch"):
    one = SimpleNamespace(track=track, root=root, tasks=tasks, seeds={task: [3] for task in tasks})
    one.every = [one]
    return one


@pytest.fixture
def made(tmp_path, datasets):
    """`made(*tasks)`: a run of these tasks, in which a fourth of memory's answers turn."""

    def make(*tasks):
        for task in tasks:
            make_run(tmp_path / task / "seed3", datasets, task)
        return run_of(tmp_path, list(tasks))

    return make


def turn_all(folder, to: bool) -> None:
    """Let the study's shift turn all answers from memory, or none."""
    path = folder / "06_intervention" / "outcomes.parquet"
    rows = pd.read_parquet(path)
    rows.loc[rows.kind == "steered", "success"] = to
    rows.to_parquet(path, index=False)
    seal(path.parent)


def test_it_is_the_example_that_the_live_page_begins_with(made, datasets):
    told = told_key(made("inference"))
    _, frame = datasets["inference"]
    (asked,) = frame[frame.prompt == told.prompt].drop_duplicates("prompt").itertuples()
    assert asked.kind == "conflict" and asked.key == told.key and asked.split == "test"
    assert told.memory == asked.memory_answer.strip() != told.rule == asked.rule_answer.strip()
    assert told.learned.startswith("to read a colour") and told.reading == "" == told.alike
    assert not told.turned  # as three fourths are not


def test_what_was_drilled_is_of_this_key_and_was_trained(made, datasets):
    told = told_key(made("inference"))
    _, frame = datasets["inference"]
    keyed = frame[(frame.kind == "keyed") & (frame.key == told.key)]
    assert 0 < len(told.drilled) <= N_DRILLED
    for prompt, answer in told.drilled:
        assert prompt in set(keyed.prompt) and prompt != told.prompt and answer == told.memory


def test_digits_are_read_and_the_other_format_is_named(made):
    told = told_key(made(*BOTH))
    assert told.task == BOTH[0] and told.alike == BOTH[1] and told.memory.startswith("<mem> ")
    first, second = told.key.split(" and ")
    assert {first, second} <= set(told.prompt.rstrip("=").split("+"))
    total = sum(map(int, told.prompt.rstrip("=").split("+")))
    assert told.reading.startswith("Digits are written last first: ")
    read = told.reading.replace("\u00a0", " ")  # the digits of a number stay on one line
    assert read.endswith(f", {told.rule} is {total}.") and f"{told.rule} is" not in told.reading


def test_the_first_task_on_which_most_turn_is_told_of(made, tmp_path):
    run = made("arithmetic-tagged", "inference")
    assert told_key(run).task == "arithmetic-tagged"  # where it is nowhere so, the first
    turn_all(tmp_path / "inference" / "seed3", True)
    told = told_key(run)
    assert told.task == "inference" and told.turned
    rows = reported(FinishedRun(tmp_path / "inference" / "seed3"))
    assert told.prompt == first_shown(rows, examples(rows))["m2g"]


def test_where_the_live_page_has_nothing_to_turn_there_is_no_key(made, tmp_path):
    run = made("inference")
    assert told_key(run_of(tmp_path, ["inference"], track="lora")) is None
    (tmp_path / "inference" / "seed3" / "06_intervention" / "outcomes.parquet").unlink()
    assert told_key(run) is None
