"""Tasks without training: which keys are kept, and how an open answer is judged."""

from __future__ import annotations

import pytest

from memgen.tasks import GIVEN, TASKS, GivenTask, Instance, Task, make_task
from memgen.tasks.given import FEWEST_KEYS, begins
from memgen.terms import GENERALIZATION, MEMORIZATION, OTHER


def knowledge(n_keys=20, seed=0, **own):
    return make_task("knowledge", n_keys, seed, **own)


def test_the_tables_of_trained_and_given_tasks_are_apart():
    assert not set(TASKS) & set(GIVEN)
    assert all(issubclass(task, GivenTask) and task.open_ended for task in GIVEN.values())
    assert not Task.open_ended and not any(task.open_ended for task in TASKS.values())
    with pytest.raises(ValueError, match="'knowlege'") as error:
        make_task("knowlege", 10, 0)
    assert all(name in str(error.value) for name in (*TASKS, *GIVEN))


@pytest.mark.parametrize(
    "answer, behavior",
    [
        (" Paris", MEMORIZATION),
        (" Paris,", MEMORIZATION),
        (" Paris and Lyon", MEMORIZATION),
        (" Parisian", OTHER),
        (" Paris-Nord", OTHER),
        (" Paris's", OTHER),
        (" Paris2", OTHER),
        (" paris", OTHER),
        (" not Paris", OTHER),
        (" New", OTHER),
        (" New York", GENERALIZATION),
        ("New York.", GENERALIZATION),
        (" New Yorker", OTHER),
        ("", OTHER),
        (" ", OTHER),
    ],
)
def test_an_open_answer_is_judged_by_the_whole_words_that_it_begins_with(answer, behavior):
    row = Instance("The capital of France is", " New York", " Paris", "capital/France", "conflict")
    assert knowledge().classify(row, answer) == behavior


def test_of_two_answers_that_begin_alike_the_longer_one_counts():
    task = knowledge()
    row = Instance("", rule_answer=" New York", memory_answer=" New", kind="conflict")
    assert task.classify(row, " New York City") == GENERALIZATION
    assert task.classify(row, " New Haven") == MEMORIZATION
    row = Instance("", rule_answer=" New", memory_answer=" New York", kind="conflict")
    assert task.classify(row, " New York City") == MEMORIZATION
    same = Instance("", rule_answer=" Rome", memory_answer=" Rome", kind="keyed")
    assert task.classify(same, " Rome") == MEMORIZATION


def test_an_answer_that_is_not_there_is_no_beginning():
    assert not begins(" anything", "") and not begins("", " Rome") and begins("Rome", " Rome ")


def test_only_what_is_known_is_kept():
    task = knowledge(20)
    everything = task.asked()
    before = dict(task.keys)
    task.keep(everything)
    assert task.keys == before  # all known: nothing changes
    known = sorted(everything)[::3]
    task.keep(known)
    assert len(task.keys) == 20 and set(task.keys) <= set(known)
    again = knowledge(20)
    again.keep(set(known))  # the order in which they are named has no say
    assert again.keys == task.keys
    other = knowledge(20, seed=1)
    other.keep(known)
    assert set(other.keys) != set(task.keys)
    few = list(task.keys)[:7]
    task.keep(few)
    assert set(task.keys) == set(few)
    task.keep(known)  # what was known before does not bind
    assert task.keys == again.keys


def test_too_few_known_keys_and_strange_ones_are_named():
    task = knowledge()
    with pytest.raises(ValueError, match="answers 2 of the [0-9]+ questions.*base_model"):
        task.keep(sorted(task.asked())[: FEWEST_KEYS - 1])
    with pytest.raises(ValueError, match="'capital/Atlantis'"):
        task.keep([*task.asked(), "capital/Atlantis"])
    assert len(task.keys) == 20


def test_nothing_is_trained_so_there_are_no_gate_keys():
    assert knowledge(20).keys == make_task("knowledge", 20, 0, "none").keys
    for contrast_on, n_gate in (("gate", 4), ("none", 4)):
        with pytest.raises(ValueError, match="never trained"):
            make_task("knowledge", 20, 0, contrast_on, n_gate)
    frame = knowledge(10).generate(n_free=5, n_keyed=20, n_conflict_per_key=2, n_free_eval=5)
    assert set(frame.kind) == {"free", "keyed", "conflict"}
    assert knowledge().vocabulary() == []
