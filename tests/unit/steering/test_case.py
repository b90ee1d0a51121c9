"""A case: the cell that lab 06 chose, its test prompts, and which of them have a margin."""

from __future__ import annotations

import numpy as np
import pytest

from memgen.steering.case import open_case
from memgen.steering.cells import Cell
from memgen.steering.steering import steering_prompts
from memgen.terms import DIRECTIONS, SIGN
from steered import CHOSEN, ONE, N


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_case_has_the_chosen_cell_and_the_test_prompts_of_its_direction(alike, direction):
    steering, _, answered = alike
    case = open_case(steering, answered, direction, CHOSEN, N)
    rows = steering_prompts(answered, "test", direction, N)
    assert case.cell == Cell(ONE, 1.0) and case.sign == SIGN[direction]
    assert case.rows.prompt.tolist() == rows.prompt.tolist() and len(case.prompts) == len(rows)
    assert case.keys.tolist() == rows.key.tolist()
    assert len(open_case(steering, answered, direction, CHOSEN, 3).prompts) == 3


def test_prompts_whose_answers_begin_alike_have_no_margin(alike):
    """The rule's answer is R, or MR where the memory's is M: these begin alike."""
    steering, _, answered = alike
    alone = answered.prompt.str.contains("word[0-9] ")
    mixed = answered.assign(rule_answer=answered.rule_answer.where(alone, "MR"))
    case = open_case(steering, mixed, "m2g", CHOSEN, 1000)
    expected = case.rows.prompt.str.contains("word[0-9] ").to_numpy()
    assert 0 < expected.sum() < len(expected)
    np.testing.assert_array_equal(case.distinct, expected)
    kept = case.begin_differently
    assert kept.input_ids.tolist() == case.prompts.input_ids[np.flatnonzero(expected)].tolist()
    token = steering.tokenizer.convert_tokens_to_ids
    assert case.candidates[expected, :, 0].tolist() == [[token("M"), token("R")]] * len(kept)
    nothing = open_case(steering, answered.assign(rule_answer="MR"), "m2g", CHOSEN, N)
    assert not nothing.distinct.any() and nothing.begin_differently is None
