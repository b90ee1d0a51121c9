"""Anti-steerable prompts are planted: far below memory the planted model's margin falls along the shift."""

from __future__ import annotations

import numpy as np
import pytest

from memgen.neurons.nmd import NeuronMaps
from memgen.steering.dose_slopes import DOSES, anti_steerable, dose_slopes, slopes
from memgen.steering.steering import Steering, steering_prompts
from planted import Planted
from steered import RELEVANT, N

HALF = np.zeros((2, 8))
HALF[RELEVANT] = 0.5


def table_of(steering, answered, direction: str, n: int = 2):
    rows = steering_prompts(answered, "test", direction, N)
    return dose_slopes(steering, HALF, rows, direction, (n, np.random.default_rng(0)))


def test_a_slope_is_that_of_a_straight_line():
    doses = np.array(DOSES)
    lines = np.array([[2.0, 1.0], [-3.0, 0.0], [0.0, 5.0]])
    log_odds = doses[:, None] * lines[:, 0] + lines[:, 1]
    assert slopes(log_odds, doses) == pytest.approx(lines[:, 0])
    rng = np.random.default_rng(0)
    noisy = rng.normal(size=(5, 7))
    assert slopes(noisy, doses) == pytest.approx(np.polyfit(doses, noisy, 1)[0])


@pytest.mark.parametrize("direction", ["m2g", "g2m"])
def test_prompts_near_the_border_move_the_way_they_should(alike, direction):
    steering, _, answered = alike
    table = table_of(steering, answered, direction)
    own, control = anti_steerable(table)
    assert len(table) and (own == 0).all() and (table.start < 0).all()
    assert control.shape == own.shape and set(table.columns) >= {
        "key",
        "prompt",
        "slope",
        "control_2",
    }


def test_planted_anti_steerable_prompts_are_found(planted, planted_direction):
    """The last norm turns the line around: from -3 upwards the rule's lead falls before it rises."""
    model, tokenizer, task, _, answered = planted(Planted)
    steering = Steering(model, tokenizer, task, NeuronMaps.of(planted_direction, "resid_post"))
    own, _ = anti_steerable(table_of(steering, answered, "m2g"))
    assert len(own) and (own == 1).all()
    table = table_of(steering, answered, "m2g", n=0)
    assert np.isnan(anti_steerable(table)[1]).all()  # no control was drawn


def test_no_prompt_gives_an_empty_table(alike):
    steering, _, answered = alike
    table = table_of(steering, answered[:0], "m2g")
    assert len(table) == 0 and anti_steerable(table)[0].shape == (0,)
