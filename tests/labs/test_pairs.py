"""Lab 03: the computing cell answers every conflict prompt; checks and figure say what they see."""

from __future__ import annotations

import pandas as pd
import pytest

from computing import planted_lab, run_cell
from memgen.figures import pairs as figures
from memgen.labs.pairs import checks, examples, overview, summary
from memgen.neurons.pairs import flips
from memgen.terms import GENERALIZATION, MEMORIZATION

M, R = MEMORIZATION, GENERALIZATION
ANSWERED = pd.DataFrame(
    [
        ("a", "train", 0, 0, M),
        ("a", "train", 0, 1, R),
        ("a", "train", 0, 2, M),
        ("b", "test", 1, 0, R),
        ("b", "test", 1, 1, R),
        ("b", "test", 1, 2, M),
    ],
    columns=["key", "split", "group", "rephrasing", "behavior"],
)


def test_the_computing_cell_keeps_every_answer(planted, tmp_path):
    *made, answered = planted()
    lab = planted_lab("03_pairs", tmp_path, (*made, answered), {"n_rephrasings": 2})
    left = run_cell(lab)
    assert left["answered"].equals(answered) and left["r"] == lab.result
    assert left["pairs"].equals(flips(answered))
    numbers = {k: v for k, v in left["r"].items() if k != "timings"}
    assert numbers == summary(answered)
    assert numbers["flip_rate"] == dict.fromkeys(
        numbers["flip_rate"], 1.0
    )  # of this task, every one
    assert all(checks(answered, left["pairs"]).values())


def test_the_summary_counts_by_split():
    r = summary(ANSWERED)
    assert r["n_prompts"] == {"train": 3, "test": 3} and r["n_pairs"] == {"train": 1, "test": 1}
    assert r["n_pair_keys"] == {"train": 1, "test": 1}
    assert r["flip_rate"] == {"train": 0.5, "test": 0.5}
    table = overview(r)
    assert list(table.columns) == ["prompts", "flip pairs", "keys with a pair", "flip rate"]
    assert table.loc["test", "flip rate"] == 0.5


@pytest.mark.parametrize(
    "row, column, value, broken",
    [(0, "key", "z", 0), (0, "behavior", R, 1), (1, "behavior", M, 1), (None, None, None, 2)],
)
def test_each_check_can_fail(row, column, value, broken):
    pairs = flips(ANSWERED)
    assert list(checks(ANSWERED, pairs).values()) == [True] * 3
    answered = ANSWERED.copy()
    if row is None:
        pairs = pd.concat([pairs, pairs], ignore_index=True)
    else:
        answered.loc[row, column] = value
    held = list(checks(answered, pairs).values())
    assert held == [i != broken for i in range(3)]


def test_examples_show_each_pair_from_memory_first():
    columns = dict.fromkeys(["prompt", "answer", "memory_answer", "rule_answer"], "x")
    shown = examples(ANSWERED.assign(**columns), flips(ANSWERED))
    assert list(shown.behavior) == [M, R, M, R] and list(shown.key) == ["a", "a", "b", "b"]


def test_the_figure_lists_every_rate():
    drawing = figures.flip_bars(summary(ANSWERED)["flips"])
    assert drawing.name == "flips" and drawing.alt.endswith(
        "by split and direction: train m2g 0.50; train g2m 0.00; test m2g 0.00; test g2m 0.50"
    )
    assert [text.get_text() for text in drawing.figure.axes[0].texts].count("n=2") == 2
