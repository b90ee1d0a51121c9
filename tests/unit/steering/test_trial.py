"""A trial: a cell in one direction on its prompts."""

from __future__ import annotations

import numpy as np
import pytest

from memgen.steering.cells import Cell
from memgen.steering.steering import Steering, steering_prompts
from memgen.steering.trial import Trial
from memgen.terms import DIRECTIONS, SIGN
from steered import ONE


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_shift_is_turned_to_the_direction_and_turns_every_answer(alike, direction):
    steering, _, answered = alike
    trial = Trial(
        steering, direction, Cell(ONE, 1.0), steering_prompts(answered, "test", direction, 8)
    )
    np.testing.assert_array_equal(trial.signed(trial.shift), SIGN[direction] * trial.shift)
    codes = trial.run([0 * trial.shift, trial.shift])
    assert codes.shape == (2, len(trial.rows))
    assert trial.unchanged(codes[0]) and not trial.unchanged(codes[1])
    assert trial.succeeds(codes[1]).all() and not trial.succeeds(codes[0]).any()
    assert trial.summary(codes[1])["success"] == 1
    mixed = codes[0].copy()
    mixed[0] = codes[1, 0]
    assert not trial.unchanged(mixed)


def test_nothing_to_run_gives_no_codes(alike):
    steering, _, answered = alike
    rows = steering_prompts(answered, "test", "m2g", 8)
    trial = Trial(steering, "m2g", Cell(ONE, 1.0), rows)
    assert trial.run([]).shape == (0, 0)
    nobody = trial.on(rows[:0])
    assert nobody.run([trial.shift, trial.shift]).shape == (2, 0)
    for none in (trial.run([]), nobody.run([trial.shift])):  # codes of the same kind as others
        assert none.dtype == trial.run([trial.shift]).dtype == np.int8
    assert nobody.cell == trial.cell and len(trial.on(rows[:3]).rows) == 3


def test_other_maps_and_other_positions_are_used_where_they_are_named(alike):
    """The planted neuron acts from the prompt's last token alone; elsewhere a shift does nothing."""
    steering, _, answered = alike
    rows = steering_prompts(answered, "test", "m2g", 8)
    trial = Trial(steering, "m2g", Cell(ONE, 1.0), rows)
    whole = trial.run([trial.shift])
    np.testing.assert_array_equal(trial.run([trial.shift], positions="decision"), whole)
    nowhere = Steering(steering.model, steering.tokenizer, steering.task, steering.maps, "decision")
    np.testing.assert_array_equal(trial.run([trial.shift], steering=nowhere), whole)


class Asked:
    """A steering that only notes how it is asked."""

    def __init__(self):
        self.calls = []

    def outcomes(self, shifts, rows, positions=None):
        self.calls.append((shifts.tolist(), len(rows), positions))
        return np.zeros((len(shifts), len(rows)), dtype=np.int8)


def test_the_steering_is_asked_with_the_signed_shift_and_the_positions_named(alike):
    _, _, answered = alike
    rows = steering_prompts(answered, "test", "g2m", 8)
    own, other = Asked(), Asked()
    trial, one = Trial(own, "g2m", Cell(ONE, 1.0), rows), np.ones((2, 8))
    trial.run([one])
    trial.run([one], positions="decision")
    trial.run([one], steering=other, positions="all")
    given = [(-one).tolist()]
    assert own.calls == [(given, len(rows), None), (given, len(rows), "decision")]
    assert other.calls == [(given, len(rows), "all")]
