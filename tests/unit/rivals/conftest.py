"""A planted model with everything that a method may see of it, and the board that judges methods on it."""

from __future__ import annotations

import pytest

from memgen.rivals.board import Board, Testing
from memgen.rivals.choosing import Tuning
from memgen.rivals.material import Material
from memgen.steering.cells import grid
from memgen.steering.steering import steering_prompts
from memgen.tasks.dataset import free_rows
from memgen.terms import DIRECTIONS
from steered import ONE

N = 20


@pytest.fixture
def material(alike) -> Material:
    """Of the model in which coordinate 0 decides, and +1 or -1 there turns every answer."""
    steering, frame, answered = alike
    cells = grid([0.5, 1.0, 2.0], [ONE, 2 * ONE], steering.nmd, steering.rho)
    return Material.of(steering, (answered, frame), cells, "order", seed=0)


@pytest.fixture
def board(alike, material) -> Board:
    _, frame, answered = alike

    def turned(split: str) -> dict:
        return {d: steering_prompts(answered, split, d, N) for d in DIRECTIONS}

    keyed = frame[(frame.kind == "keyed") & (frame.split == "test")]
    return Board(
        material,
        Tuning(turned("validation"), free_rows(frame, "validation", N), limit=0.01),
        Testing(turned("test"), free_rows(frame, "test", N), keyed),
    )
