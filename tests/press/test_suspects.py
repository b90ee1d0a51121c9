"""What became of a suspect is what the ledger says of the claim against it; tasks have plain names."""

from __future__ import annotations

from dataclasses import fields

import pytest

from memgen.tasks import TASK_NAMES
from memgen.terms import VERDICTS
from press.sentences import Judged
from press.suspects import tried
from press.task_names import learned, plainly, written_alike


def claim(**verdicts: str) -> Judged:
    """A claim with these verdicts by task."""
    empty = {field.name: None for field in fields(Judged)}
    cases = {task: {"verdict": verdict, "n_seeds": 3} for task, verdict in verdicts.items()}
    return Judged(**empty | {"cases": cases})


def test_each_verdict_has_its_place_in_the_sentence():
    assert tried(claim(a="supported", b="contradicted", c="reversed", d="open", e="open")) == (
        "ruled out on 1 of 5 tasks (a); it stands on b (contradicted), c (reversed); open on d, e"
    )
    assert tried(claim(a="supported")) == (
        "ruled out on 1 of 1 task (a); it stands on no task; open on no task"
    )
    assert tried(claim()) == "tried on no task of this run"


@pytest.mark.parametrize("verdict", VERDICTS)
def test_no_task_is_lost(verdict):
    said = tried(claim(inference=verdict))
    assert said.count("inference") == 1
    assert said.startswith("ruled out on 1 of 1") == (verdict == "supported")


def test_tasks_have_plain_names():
    named = {task: plainly(task) for task in TASK_NAMES}
    assert named["arithmetic-tagged"] == "addition, memory answer marked"
    assert named["cipher-matched"] == "shifted alphabet, memory answer unmarked"
    assert named["inference"] == "names and colours" and len(set(named.values())) == len(named)
    assert plainly("capitals") == "capitals" and plainly("cipher-mine") == "cipher-mine"
    assert learned("arithmetic-matched") == "to add three numbers" and learned("mine") == "a rule"


def test_the_task_written_alike_has_to_be_in_the_book():
    both = ["arithmetic-tagged", "arithmetic-matched"]
    assert written_alike(both[0], both) == both[1]
    assert written_alike(both[0], both[:1]) == written_alike(both[1], both) == ""
    assert written_alike("inference", ["inference", *both]) == ""
