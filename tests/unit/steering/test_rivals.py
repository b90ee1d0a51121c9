"""Rivals that select no neuron: their layer and strength are found where they were planted."""

from dataclasses import replace

import numpy as np
import pytest

from capitals import Capitals
from memgen.steering.cells import Cell
from memgen.steering.choice import Collateral
from memgen.steering.rivals import (
    NO_RIVALS,
    Yardstick,
    best_of,
    instructed,
    one_layer,
    together,
)
from memgen.steering.side_effects import Elsewhere
from memgen.steering.steering import Steering, steering_prompts
from memgen.steering.trial import Trial
from memgen.tasks.dataset import free_rows, keyed_rows
from steered import ONE


@pytest.fixture
def tried(alike):
    """A trial from memory to rule, and what tuned rivals are measured by: no limit, and free prompts."""
    steering, frame, answered = alike
    rows, tuning = (steering_prompts(answered, s, "m2g", 20) for s in ("test", "validation"))
    elsewhere = Elsewhere(steering, free_rows(frame, "test", 10), keyed_rows(frame, 12))
    free = Collateral(steering, free_rows(frame, "validation", 10), 0.0)
    return Trial(steering, "m2g", Cell(ONE, 1.0), rows), Yardstick(tuning, [free], elsewhere)


BOTH = ["one_layer", "one_layer_kept"]


def test_the_planted_layer_and_strength_are_chosen(tried):
    trial, by = tried
    bars, facts, rows = one_layer(trial, [0.1, 1.0, 4.0], by)
    assert list(bars) == list(facts) == BOTH == list(rows.kind.unique())
    for name in BOTH:  # +1 turns memory to rule and leaves free prompts alone
        assert bars[name].success == 1.0 == rows[rows.kind == name].success.mean()
        found = facts[name]
        assert (found["layer"], found["validation_success"]) == (2, 1.0) and found["alpha"] >= 1.0
        assert found["grid_rows"] == 6 * len(by.tuning)
        assert found["keyed_accuracy_before"] == 1 and found["keyed_accuracy_after"] == 0
        assert bars[name].norm == pytest.approx(
            found["alpha"] * np.linalg.norm(trial.steering.nmd[1])
        )


def test_what_ruins_other_prompts_is_not_kept(tried):
    """Facts are answered by the rule after the shift that turns: within a limit on them nothing does."""
    trial, by = tried
    facts = Collateral(trial.steering, by.elsewhere.keyed, 0.0, "keyed")
    bars, told, _ = one_layer(trial, [0.001, 1.0], replace(by, limits=[*by.limits, facts]))
    assert bars["one_layer"].success == 1.0 and told["one_layer"]["validation_keyed_after"] == 0
    assert bars["one_layer_kept"].success == 0.0 and told["one_layer_kept"]["alpha"] == 0.001
    assert told["one_layer_kept"]["validation_keyed_after"] == 1.0


def test_without_any_within_the_limits_its_bar_is_empty(tried):
    trial, by = tried
    facts = Collateral(trial.steering, by.elsewhere.keyed, 0.0, "keyed")
    only = trial.steering.nmd * np.array([[0], [1]])
    bars, told, rows = best_of(
        trial, tuple(BOTH), only[None], [{"layer": 2}], replace(by, limits=[facts])
    )
    assert bars["one_layer"].success == 1.0 and list(told) == ["one_layer"]
    assert bars["one_layer_kept"].success is None and set(rows.kind) == {"one_layer"}
    assert np.isnan(bars["one_layer_kept"].row()["success"])


def test_where_the_layer_says_nothing_no_strength_helps(tried):
    trial, by = tried
    maps = trial.steering.maps
    flat = replace(maps, nmd=np.where([[True], [False]], maps.nmd, 0))
    trial = replace(trial, steering=trial.steering.at(flat))
    bars, facts, _ = one_layer(trial, [1.0, 4.0], by)
    assert bars["one_layer"].success == 0 and facts["one_layer"]["layer"] == 1


def test_what_is_not_asked_for_is_not_there(tried):
    trial, by = tried
    assert one_layer(trial, [], by) is NO_RIVALS
    assert instructed(trial) is NO_RIVALS  # its task has no wordings
    bars, facts, rows = together(NO_RIVALS, NO_RIVALS)
    assert not bars and not facts and rows.empty


def test_each_wording_is_asked_without_a_shift(tried):
    """The first wording asks a prompt that is answered by the rule, the second the prompt as it is."""
    trial, *_ = tried
    steering, asked = trial.steering, "word1 word2 near-rule"

    class Told(Capitals):
        open_ended = False
        max_answer_tokens = steering.task.max_answer_tokens

        def instructed(self, instance, direction):
            assert direction == "m2g"
            return [replace(instance, prompt=asked), instance]

    told = Steering(steering.model, steering.tokenizer, Told(3, 0), steering.maps)
    bars, _, rows = instructed(replace(trial, steering=told))
    assert list(bars) == ["instruction_1", "instruction_2"] and len(rows) == 2 * len(trial.rows)
    assert [bar.success for bar in bars.values()] == [1.0, 0.0]
    assert bars["instruction_2"].other == 0  # still the memory's answer
    assert list(rows.key) == 2 * list(trial.rows.key)
