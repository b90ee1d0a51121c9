"""Steering of which it is known what every shift does: one neuron, shifted by 1, turns every answer."""

from __future__ import annotations

from memgen.models.build import build_model
from memgen.models.tokenizer import build_tokenizer
from memgen.steering.case import Case, open_case

ONE = 1 / 16  # share that is one neuron of 2 layers x 8
N = 20  # test prompts per direction
CHOSEN = {"top_n": ONE, "alpha": 1.0}
RELEVANT = (1, 0)  # coordinate 0 decides
IDLE = [(1, 4), (1, 5), (1, 6), (0, 7)]  # these four change no logit


def case_of(alike, direction: str, **changes) -> Case:
    """A direction of the fixture `alike`, at the chosen cell or a changed one."""
    return open_case(alike[0], alike[2], direction, CHOSEN | changes, N)


def random_model() -> tuple:
    """`(tokenizer, model)`: eight words, and a GPT-2 of two layers x 16 with random weights."""
    tokenizer = build_tokenizer([f"w{i} " for i in range(8)])
    given = {"n_layer": 2, "n_embd": 16, "n_head": 2, "n_positions": 16}
    return tokenizer, build_model(tokenizer, **given, initializer_range=0.5, seed=0).eval()
