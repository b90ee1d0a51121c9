"""Rivals that select no neuron: their layer and strength are found where they were planted."""

from dataclasses import replace

import numpy as np
import pytest

from capitals import Capitals
from memgen.steering.cells import Cell
from memgen.steering.rivals import NO_RIVALS, instructed, one_layer, together
from memgen.steering.side_effects import Elsewhere
from memgen.steering.steering import Steering, steering_prompts
from memgen.steering.trial import Trial
from memgen.tasks.dataset import free_rows, keyed_rows
from steered import ONE


@pytest.fixture
def tried(alike):
    """A trial from memory to rule, validation prompts, and prompts elsewhere."""
    steering, frame, answered = alike
    rows, tuning = (steering_prompts(answered, s, "m2g", 20) for s in ("test", "validation"))
    elsewhere = Elsewhere(steering, free_rows(frame, "test", 10), keyed_rows(frame, 12))
    return Trial(steering, "m2g", Cell(ONE, 1.0), rows), tuning, elsewhere


def test_the_planted_layer_and_strength_are_chosen(tried):
    trial, tuning, elsewhere = tried
    bars, facts, rows = one_layer(trial, tuning, [0.1, 1.0, 4.0], elsewhere)
    assert set(bars) == set(facts) == {"one_layer"} and set(rows.kind) == {"one_layer"}
    assert bars["one_layer"].success == 1.0 == rows.success.mean()
    found = facts["one_layer"]
    assert (found["layer"], found["validation_success"]) == (2, 1.0) and found["alpha"] >= 1.0
    assert found["grid_rows"] == 6 * len(tuning)
    assert found["keyed_accuracy_before"] == 1 and found["keyed_accuracy_after"] == 0
    assert bars["one_layer"].norm == pytest.approx(
        found["alpha"] * np.linalg.norm(trial.steering.nmd[1])
    )


def test_where_the_layer_says_nothing_no_strength_helps(tried):
    trial, tuning, elsewhere = tried
    maps = trial.steering.maps
    flat = replace(maps, nmd=np.where([[True], [False]], maps.nmd, 0))
    trial = replace(trial, steering=trial.steering.at(flat))
    bars, facts, _ = one_layer(trial, tuning, [1.0, 4.0], elsewhere)
    assert bars["one_layer"].success == 0 and facts["one_layer"]["layer"] == 1


def test_what_is_not_asked_for_is_not_there(tried):
    trial, tuning, elsewhere = tried
    assert one_layer(trial, tuning, [], elsewhere) is NO_RIVALS
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
