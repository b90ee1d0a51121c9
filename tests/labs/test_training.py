"""Lab 02: the gate on test keys, and what the figure says."""

from __future__ import annotations

import pandas as pd

from computing import planted_lab, run_cell
from memgen.figures import training as figures
from memgen.labs.training import behavior_table, gate_checks
from memgen.stats.intervals import wilson
from small_training import OPEN_GATE

GATE = {"memory": 0.25, "rule": 0.25, "other": 0.2, "free": 0.9, "keyed": 0.0}
RESULT = {
    "memory_rate": 0.5,
    "rule_rate": 0.4,
    "other_rate": 0.1,
    "free_accuracy": 0.95,
    "n_conflict": 40,
}
TINY = {
    "n_layer": 1,
    "n_embd": 16,
    "n_head": 2,
    "max_steps": 4,
    "evaluate_every": 2,
    "base_steps": 2,
}


def test_the_computing_cell_trains_keeps_and_scores_a_checkpoint(planted, tmp_path):
    lab = planted_lab("02_training", tmp_path, planted(), TINY | OPEN_GATE)
    left = run_cell(lab)
    assert list(left["history"].step) == [2, 4] and left["r"] == lab.result
    assert left["r"]["step"] in (2, 4) and left["r"]["base"]
    assert lab.result["timings"].keys() >= {"seconds", "train_seconds", "tokens_per_second"}
    model, tokenizer = lab.model()
    assert model.config.n_embd == 16 and tokenizer.padding_side == "left"


def test_every_share_has_its_interval():
    table = behavior_table(RESULT)
    assert list(table.share) == [0.5, 0.4, 0.1] and set(table.n) == {40}
    assert (table.low[0], table.high[0]) == wilson(20, 40)


def test_each_side_of_the_gate_can_fail():
    assert all(gate_checks(RESULT, GATE).values())
    low = {"memory_rate": 0.2, "rule_rate": 0.2, "other_rate": 0.3, "free_accuracy": 0.8}
    for name, value in low.items():
        held = gate_checks(RESULT | {name: value}, GATE)
        assert list(held.values()).count(False) == 1, name


def test_the_figure_of_other_texts_says_its_numbers():
    shares = {"right": 0.7, "interval": [0.5, 0.9], "n": 40, "n_keys": 10, "stated": 0.2}
    found = {
        "none": shares | {"right": 1.0, "interval": None, "stated": None},
        "irrelevant": shares,
    }
    drawing = figures.contexts(found)
    assert drawing.name == "contexts" and "no text 100% (n=40, 10 keys);" in drawing.alt
    assert drawing.alt.endswith(
        "something else 70% (n=40, 10 keys), 20% say what the text states of another"
    )


def test_the_figure_says_which_checkpoint_was_kept_or_that_none_was():
    columns = ["memory_rate", "rule_rate", "other_rate", "free_accuracy", "keyed_accuracy"]
    history = pd.DataFrame([[0.3, 0.4, 0.3, 0.9, 0.8]] * 2, columns=columns).assign(step=[25, 50])
    base = [{"step": 10, "free_accuracy": 0.5}, {"step": 20, "free_accuracy": 0.9}]
    assert "the kept checkpoint is at step 50" in figures.trajectory(history, 50, GATE, base).alt
    assert "no checkpoint passed the gate" in figures.trajectory(history, 50, GATE, (), False).alt
