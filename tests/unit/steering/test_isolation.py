"""Cause and isolate of a shift of which is known what it turns: near prompts, and keyed ones with them."""

from __future__ import annotations

import numpy as np

from memgen.steering.isolation import Asked, kept_answers, scores
from memgen.steering.steering import steering_prompts
from memgen.tasks.dataset import free_rows, keyed_rows
from steered import RELEVANT


def shifts() -> np.ndarray:
    """Nothing; one step, which turns every answer of the other behaviour."""
    found = np.zeros((2, 2, 8))
    found[1][RELEVANT] = 1.0
    return found


def of(alike, direction: str):
    steering, frame, answered = alike
    other = {"m2g": "g2m", "g2m": "m2g"}[direction]
    asked = Asked(
        steering_prompts(answered, "test", direction, 20),
        {
            "shown": steering_prompts(answered, "test", other, 20),
            "free": free_rows(frame, "test", 10),
            "keyed": keyed_rows(frame, 10),
        },
    )
    rows = kept_answers(steering, shifts(), asked, direction)
    return [scores(rows[rows["shift"] == number]) for number in (0, 1)]


def test_nothing_causes_nothing_and_leaves_all_alone(alike):
    for direction in ("m2g", "g2m"):
        nothing, _ = of(alike, direction)
        assert nothing == {
            **{"cause": 0.0, "isolate": 1.0, "score": 0.5},
            **{"shown": 1.0, "free": 1.0, "keyed": 1.0},
        }


def test_a_shift_for_all_prompts_cannot_spare_the_memory(alike):
    _, found = of(alike, "m2g")
    assert (found["cause"], found["shown"], found["free"], found["keyed"]) == (1.0, 1.0, 1.0, 0.0)
    assert found["isolate"] == 2 / 3 and found["score"] == (1 + 2 / 3) / 2


def test_towards_memory_free_prompts_are_what_it_breaks(alike):
    _, found = of(alike, "g2m")
    assert (found["cause"], found["shown"], found["free"], found["keyed"]) == (1.0, 1.0, 0.0, 1.0)


def test_prompts_that_were_wrong_before_do_not_count(alike):
    """Keyed prompts asked for the rule's answer are wrong before: none is left to isolate."""
    steering, frame, answered = alike
    wrong = keyed_rows(frame, 10).assign(memory_answer="R", rule_answer="M")
    turn = steering_prompts(answered, "test", "m2g", 20)
    rows = kept_answers(steering, shifts(), Asked(turn, {"keyed": wrong}), "m2g")
    assert scores(rows)["keyed"] is None and scores(rows)["isolate"] is None
    assert scores(rows)["score"] is None
