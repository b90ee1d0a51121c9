"""One model steered: which prompts it starts from, where its run says so, and what its answers count as."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from memgen.neurons.nmd import NeuronMaps
from memgen.stats.intervals import wilson
from memgen.steering.cells import Cell
from memgen.steering.prompts import Prompts
from memgen.steering.steering import Steering, outcome_rows, steering_prompts, summary
from memgen.terms import CODE, DIRECTIONS, SIGN, TARGET
from steered import ONE


# -- the prompts that a direction starts from ------------------------------------------------------
def answered_table() -> pd.DataFrame:
    """Key a has two groups with two rephrasings each, in no order; the prompt `a00` stands twice."""
    rows = [
        ("b", 0, 0, "b00", "memorization", "test", 1.0),
        ("a", 1, 1, "a11", "memorization", "test", 2.0),
        ("a", 1, 0, "a10", "memorization", "test", 3.0),
        ("a", 0, 1, "a00", "memorization", "test", 4.0),
        ("a", 0, 0, "a00", "memorization", "test", 5.0),
        ("a", 0, 2, "a02", "generalization", "test", 6.0),
        ("c", 0, 0, "c00", "memorization", "validation", 7.0),
        ("d", 0, 0, "d00", "other", "test", 8.0),
    ]
    columns = ["key", "group", "rephrasing", "prompt", "behavior", "split", "number"]
    return pd.DataFrame(rows, columns=columns)


def test_a_prompt_counts_once_in_the_order_of_keys_groups_and_rephrasings():
    found = steering_prompts(answered_table(), "test", "m2g", 10)
    assert found.prompt.tolist() == ["a00", "a10", "a11", "b00"]
    assert found.number.tolist() == [5, 3, 2, 1]  # of a prompt that stands twice, its first row
    assert steering_prompts(answered_table(), "test", "g2m", 10).prompt.tolist() == ["a02"]
    assert steering_prompts(answered_table(), "validation", "m2g", 10).prompt.tolist() == ["c00"]
    assert steering_prompts(answered_table(), "train", "m2g", 10).empty


def test_the_limit_holds_for_different_prompts_and_spreads_them():
    assert steering_prompts(answered_table(), "test", "m2g", 2).prompt.tolist() == ["a00", "b00"]


# -- a run's model and maps ------------------------------------------------------------------------
class Run(dict):
    """Stages by name, and a task that remembers the tokenizer which it was fitted to."""

    def task(self, tokenizer=None):
        return SimpleNamespace(max_answer_tokens=2, fitted_to=tokenizer)


@pytest.fixture
def run(alike, tmp_path):
    """A finished run with the planted model in lab 02, and other maps at every site in lab 04."""
    steering, _, _ = alike
    for part in (steering.model, steering.tokenizer):
        part.save_pretrained(tmp_path / "model")
    arrays = {
        f"{name}.{site}": np.full((2, 8), 10.0 * i + j)
        for i, name in enumerate(("nmd", "rho"))
        for j, site in enumerate(("resid_post", "mlp_out", "ln_2"))
    }
    training = SimpleNamespace(
        parameters=SimpleNamespace(loaded_dtype="float32", loaded_attention="eager", device="cpu"),
        path=lambda name: tmp_path / name,
    )
    return Run(
        {
            "02_training": training,
            "04_differentiation": SimpleNamespace(arrays=lambda name: {"arrays": arrays}[name]),
            "06_intervention": SimpleNamespace(result={"site": "ln_2", "positions": "decision"}),
        }
    )


def test_a_run_is_steered_where_its_lab_06_steered_it(alike, run):
    steering = Steering.of(run)
    assert (steering.site, steering.positions) == ("ln_2", "decision")
    assert (steering.nmd == 2).all() and (steering.rho == 12).all()
    assert steering.task.fitted_to is steering.tokenizer
    assert steering.tokenizer.get_vocab() == alike[0].tokenizer.get_vocab()
    kept, given = steering.model.state_dict(), alike[0].model.state_dict()
    assert kept.keys() == given.keys() and all(torch.equal(kept[k], given[k]) for k in given)


@pytest.mark.parametrize(
    "named, site, positions, nmd",
    [
        ({"site": "mlp_out"}, "mlp_out", "decision", 1),
        ({"positions": "all"}, "ln_2", "all", 2),
        ({"site": "resid_post", "positions": "all"}, "resid_post", "all", 0),
    ],
)
def test_a_site_or_positions_that_are_named_come_before_those_of_lab_06(
    run, named, site, positions, nmd
):
    steering = Steering.of(run, **named)
    assert (steering.site, steering.positions) == (site, positions)
    assert (steering.nmd == nmd).all() and (steering.rho == 10 + nmd).all()


def test_other_maps_leave_model_task_and_positions_as_they_are(alike):
    steering, _, _ = alike
    given = Steering(steering.model, steering.tokenizer, steering.task, steering.maps, "decision")
    maps = NeuronMaps("mlp_out", np.ones((2, 8)), np.ones((2, 8)))
    other = given.at(maps)
    assert other.maps is maps and other.site == "mlp_out" and other.positions == "decision"
    assert (other.model, other.tokenizer, other.task) == (given.model, given.tokenizer, given.task)


# -- shifts and prompts where the model is ---------------------------------------------------------
def test_shifts_become_float32_and_go_where_the_model_is(alike):
    steering, _, _ = alike
    shifts = np.arange(24.0).reshape(3, 2, 4)[:, ::-1]  # not contiguous, and of double precision
    found = steering.tensor(shifts)
    assert found.dtype == torch.float32 and found.tolist() == shifts.tolist()
    elsewhere = SimpleNamespace(device=torch.device("meta"))
    away = Steering(elsewhere, steering.tokenizer, steering.task, steering.maps)
    assert away.tensor(shifts).device.type == "meta"


def test_prompts_go_where_the_model_is(alike, monkeypatch):
    steering, _, answered = alike
    rows = steering_prompts(answered, "test", "m2g", 3)
    asked = []
    monkeypatch.setattr(Prompts, "to", lambda self, device: asked.append(device) or self)
    found = steering.prompts(rows)
    assert asked == [steering.model.device] and len(found) == 3
    texts = steering.tokenizer.batch_decode(found.candidates[:, :, 0].flatten()[:, None])
    assert texts == ["M", "R"] * 3


# -- how a steering decodes ------------------------------------------------------------------------
def test_the_site_of_the_maps_is_the_one_that_is_steered(alike):
    """In the planted model nothing comes of what is added to the input of a feed-forward part."""
    steering, _, answered = alike
    rows = steering_prompts(answered, "test", "m2g", 8)
    shifts = np.stack([0 * steering.nmd, steering.shift(Cell(ONE, 1.0))])
    idle = steering.at(NeuronMaps("ln_2", steering.nmd, steering.rho))
    everyone = np.arange(len(rows))
    for one, turned in ((steering, len(rows)), (idle, 0)):
        assert (one.outcomes(shifts, rows) == TARGET["m2g"]).sum(1).tolist() == [0, turned]
        leads = one.leads(shifts, rows, TARGET["m2g"])
        found = [(leads(np.full(len(rows), cell), everyone) > 0).sum() for cell in (0, 1)]
        assert found == [0, turned]
        assert one.race(shifts, rows, "m2g").successes == [0, turned]


def test_an_answer_may_be_as_long_as_the_task_says(alike):
    """The planted answer and its end are two tokens: with room for one, every answer is another."""
    steering, _, answered = alike
    rows = steering_prompts(answered, "test", "m2g", 8)
    short = SimpleNamespace(max_answer_tokens=1, open_ended=False)
    cut = Steering(steering.model, steering.tokenizer, short, steering.maps)
    nothing = np.zeros((1, 2, 8))
    assert (steering.outcomes(nothing, rows) == CODE["memorization"]).all()
    assert (cut.outcomes(nothing, rows) == CODE["other"]).all()


def test_an_answer_ends_with_the_tokenizers_end_whatever_the_model_lists(alike, monkeypatch):
    steering, _, answered = alike
    rows = steering_prompts(answered, "test", "m2g", 8)
    monkeypatch.setattr(steering.model.config, "eos_token_id", [0, 1])
    found = steering.outcomes(np.stack([steering.shift(Cell(ONE, 1.0))]), rows)
    assert (found == TARGET["m2g"]).all()


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_race_is_won_by_the_shift_that_turns_prompts(alike, direction):
    steering, _, answered = alike
    rows = steering_prompts(answered, "validation", direction, 8)
    cells = [Cell(2 * ONE, 0.1), Cell(ONE, 1.0)]  # a tenth of the shift turns nothing
    shifts = SIGN[direction] * np.stack([steering.shift(cell) for cell in cells])
    found = steering.race(shifts, rows, direction)
    assert found.best == 1 and found.successes == [0, len(rows)]
    assert found.evaluated[1] == len(rows) and 0 < found.evaluated[0] <= len(rows)


# -- what is said of outcomes ----------------------------------------------------------------------
def test_a_summary_is_that_of_all_answers_of_any_shape():
    codes = np.array([[0, 1, 1, 2], [1, 2, 0, 1]])
    found = summary(codes, "m2g")
    assert found == {"success": 0.5, "interval": list(wilson(4, 8)), "other": 0.25, "n": 8}
    assert summary(codes, "g2m")["success"] == 0.25


def test_without_answers_there_is_no_success_and_nothing_is_known():
    for direction in DIRECTIONS:
        found = summary(np.empty((2, 0), dtype=np.int8), direction)
        assert found == {"success": 0.0, "interval": [0.0, 1.0], "other": 0.0, "n": 0}


def test_every_answer_is_a_row_with_its_key_and_draw():
    rows = pd.DataFrame({"key": ["a", "b", "b"]}, index=[7, 3, 5])
    found = outcome_rows("permuted", np.array([1, 0, 2]), rows, "m2g", draw=4)
    expected = pd.DataFrame(
        {
            "direction": ["m2g"] * 3,
            "kind": ["permuted"] * 3,
            "draw": [4, 4, 4],
            "key": ["a", "b", "b"],
            "success": [True, False, False],
            "other": [False, False, True],
        }
    )
    pd.testing.assert_frame_equal(found, expected)
    first = outcome_rows("permuted", np.array([1, 0, 2]), rows, "g2m")
    assert first.success.tolist() == [False, True, False]
    assert first.draw.tolist() == [0, 0, 0]  # what is not drawn counts as the first draw
