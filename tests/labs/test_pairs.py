"""Lab 03: the computing cell answers every conflict prompt; checks and figure say what they see."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from computing import planted_lab, run_cell
from memgen.figures import pairs as figures
from memgen.labs.pairs import checks, examples, overview, summary
from memgen.neurons.pairs import flips
from memgen.stats.intervals import wilson
from memgen.terms import CHANGES, GENERALIZATION, MEMORIZATION

M, R = MEMORIZATION, GENERALIZATION
ANSWERED = pd.DataFrame(
    [
        ("a", "train", 0, 0, "", M, "1"),
        ("a", "train", 0, 1, "order", R, "1"),
        ("a", "train", 0, 2, "order", M, "1"),
        ("a", "train", 0, 3, "content", R, "1"),
        ("a", "train", 0, 4, "content", M, "2"),
        ("b", "test", 1, 0, "", R, "3"),
        ("b", "test", 1, 1, "order", R, "3"),
        ("b", "test", 1, 2, "order", M, "3"),
        ("b", "test", 1, 3, "content", M, "4"),
        ("c", "test", 2, 0, "", R, "5"),
        ("c", "test", 2, 1, "order", M, "5"),
    ],
    columns=["key", "split", "group", "rephrasing", "change", "behavior", "rule_answer"],
).assign(memory_answer="9", answer="x")
ANSWERED["prompt"] = [f"prompt {i}" for i in range(len(ANSWERED))]
PAIRS = {change: flips(ANSWERED, change) for change in CHANGES}


def test_the_computing_cell_keeps_every_answer(planted, tmp_path):
    *made, answered = planted()
    lab = planted_lab("03_pairs", tmp_path, (*made, answered), {"n_rephrasings": 2})
    left = run_cell(lab)
    assert left["answered"].equals(answered) and left["r"] == lab.result
    numbers = {k: v for k, v in left["r"].items() if k != "timings"}
    assert numbers == summary(answered)
    for change in CHANGES:
        assert left["pairs"][change].equals(flips(answered, change))
        rates = numbers["by_change"][change]["flip_rate"]
        assert rates == dict.fromkeys(rates, 1.0)  # of this task, every rephrasing flips
        assert all(checks(answered, left["pairs"][change], change).values())


def test_the_summary_counts_by_kind_of_change_and_split():
    r = summary(ANSWERED)
    assert r["n_prompts"] == {"train": 5, "test": 6} == r["n_texts"]
    order, content = (r["by_change"][change] for change in ("order", "content"))
    for name in ("n_pairs", "n_pair_keys", "flip_rate"):
        assert r[name] == order[name]
    assert order["n_pairs"] == {"train": 1, "test": 2} == order["n_pair_keys"]
    assert order["n_pair_texts"] == {"train": 2, "test": 4}
    # train: R of R, M; test: of R, M and M
    assert order["flip_rate"] == {"train": 0.5, "test": pytest.approx(2 / 3)}
    assert order["n_rephrasings"] == {"train": 2, "test": 3}
    assert order["same_answer"] == {"train": 1, "test": 1} == order["same_answer_pairs"]
    assert order["flip_rate_interval"]["test"] == list(wilson(2, 3))
    low, high = order["flip_rate_key_interval"]["test"]
    assert (low, high) == (0.5, 1.0)  # key b alone, key c alone
    assert order["flip_rate_key_interval"]["train"] == [None, None]  # one key
    assert content["flip_rate"] == {"train": 0.5, "test": 1.0}
    assert content["same_answer"] == {"train": 0.5, "test": 0.0}
    assert content["same_answer_pairs"] == {"train": 1.0, "test": 0.0}
    json.dumps(r, allow_nan=False)
    table = overview(r)
    assert table.loc[("the question changes", "train"), "keep the rule's answer"] == 0.5


def test_without_a_rephrasing_of_a_kind_its_rate_is_unknown():
    only_order = ANSWERED[ANSWERED.change != "content"]
    found = summary(only_order)["by_change"]["content"]
    assert found["flip_rate"] == {"train": None, "test": None} == found["same_answer_pairs"]
    assert found["n_pairs"] == {"train": 0, "test": 0}
    assert all(checks(only_order, flips(only_order, "content"), "content").values())


@pytest.mark.parametrize(
    "row, column, value, broken",
    [
        (0, "key", "z", 0),
        (0, "behavior", R, 1),
        (1, "behavior", M, 1),
        (6, "prompt", "prompt 9", None),  # a text twice, but in one pair only
        (9, "prompt", "prompt 7", 2),
        (1, "rule_answer", "7", 3),
        (10, "memory_answer", "7", 3),
    ],
)
def test_each_check_can_fail(row, column, value, broken):
    assert list(checks(ANSWERED, PAIRS["order"], "order").values()) == [True] * 4
    answered = ANSWERED.copy()
    answered.loc[row, column] = value
    held = list(checks(answered, PAIRS["order"], "order").values())
    assert held == [i != broken for i in range(4)]


def test_pairs_of_another_question_may_have_other_answers():
    assert list(checks(ANSWERED, PAIRS["content"], "content").values()) == [True] * 3


def test_examples_show_each_pair_from_memory_first():
    shown = examples(ANSWERED, PAIRS, 1)
    assert list(shown.behavior) == [M, R, M, R] and list(shown.key) == ["a"] * 4
    assert list(shown.change) == ["order", "order", "content", "content"]
    assert list(shown.rule_answer) == ["1", "1", "1", "1"]


def test_the_figure_lists_every_rate_by_kind():
    drawing = figures.flip_bars(summary(ANSWERED)["flips"])
    assert drawing.name == "flips" and drawing.alt.endswith(
        "split and direction. order: train m2g 0.50; train g2m 0.00; test m2g 0.00; test g2m 0.67."
        " content: train m2g 0.50; train g2m 0.00; test m2g 0.00; test g2m 1.00"
    )
    above, below = drawing.figure.axes
    assert [t.get_text() for t in above.texts] == ["n=2", "n=0", "n=0", "n=3"]
    assert [t.get_text() for t in below.texts] == ["n=2", "n=0", "n=0", "n=1"]
