"""Unsteered passes that are kept: any prompts of them are served, in any order, and none is run twice."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from capitals import Capitals, asked_model
from memgen.models.generate import tokenize_prompts
from memgen.models.hooks import evaluating
from memgen.neurons.nmd import NeuronMaps
from memgen.steering.kept import Kept, Tables
from memgen.steering.prompts import Prompts
from memgen.steering.steering import Steering
from memgen.steering.unsteered import Unsteered
from memgen.tasks import Inference

SHORT = [f"In place{i} lies" for i in range(4)]
FRESH = ("model", "tokenizer", "task", "maps", "positions")
LONG = [f"The capital of place{i} is place{i} is" for i in range(4)]


class Counted:
    """A random model; `passed`: prompts that ran through it, one-token passes not counted."""

    def __init__(self):
        self.model, self.tokenizer = asked_model()
        self.passed: list[int] = []
        self.model.model.register_forward_pre_hook(self._see, with_kwargs=True)

    def _see(self, module, args, kwargs):
        ids = kwargs["input_ids"]
        if ids.shape[1] > 1 and not kwargs["past_key_values"].get_seq_length():
            self.passed.append(len(ids))

    def prompts(self, texts) -> Prompts:
        ids, mask = tokenize_prompts(self.tokenizer, list(texts))
        return Prompts(ids, mask, torch.ones(len(ids), 2, 1, dtype=torch.long))


@pytest.fixture
def counted():
    return Counted()


def beside(kept: Kept, counted: Counted, texts) -> None:
    """What is picked is what a pass over these very prompts computes, where it is not padding."""
    prompts = counted.prompts(texts)
    with torch.inference_mode(), evaluating(counted.model):
        picked = kept.pick(counted.model, prompts)
        ran = list(counted.passed)
        fresh = Unsteered.of(counted.model, prompts, outputs=False)
        rows = torch.arange(len(prompts)).flip(0).repeat(2)
        known = prompts.input_ids.shape[1] - 1
        seen = prompts.attention_mask[rows, None, :known, None]
        both = list(zip(picked.before(rows, known), fresh.before(rows, known), strict=True))
        counted.passed[:] = ran
    assert len(both) == 2 and seen.any()
    for found, expected in both:
        for one, other in zip(found, expected, strict=True):
            assert one.shape == other.shape
            np.testing.assert_allclose(one * seen, other * seen, rtol=1e-4, atol=1e-5)


def test_any_of_the_kept_prompts_are_served_without_a_pass(counted):
    kept = Kept()
    beside(kept, counted, [*SHORT, *LONG])
    assert sum(counted.passed) == 8
    for some in ([*LONG[::-1]], [SHORT[2], LONG[1], SHORT[2]], SHORT[1:2]):  # other widths, twice
        beside(kept, counted, some)
    assert sum(counted.passed) == 8
    beside(kept, counted, [SHORT[0], "In place7 lies", LONG[3], "In place7 lies"])
    assert sum(counted.passed) == 9  # the new one, once


def test_a_prompt_that_goes_on_by_a_token_is_served(counted):
    kept = Kept()
    beside(kept, counted, ["The capital of place1", "In place2"])
    beside(kept, counted, ["In place2 is", "The capital of place1 is"])
    assert sum(counted.passed) == 2
    beside(kept, counted, ["The capital of place1 lies"])  # all but the last are the same
    assert sum(counted.passed) == 2
    beside(kept, counted, ["The capital of place1 is place1 is"])
    assert sum(counted.passed) == 3


def test_those_that_were_not_used_for_longest_are_forgotten(counted):
    kept = Kept()
    beside(kept, counted, SHORT[:1])
    each, kept = kept.size, Kept(2 * kept.size)
    counted.passed.clear()
    for number, ran in ((1, 1), (2, 2), (1, 2), (3, 3), (1, 3), (2, 4)):
        beside(kept, counted, [SHORT[number]])
        assert sum(counted.passed) == ran and kept.size <= 2 * each
    beside(kept, counted, SHORT)  # more than may be kept at once are held all the same
    assert kept.size == 2 * each
    beside(Kept(0), counted, LONG)


@pytest.fixture
def steering(counted):
    maps = NeuronMaps("resid_post", np.ones((2, 16)), np.ones((2, 16)))
    return Steering(counted.model, counted.tokenizer, Capitals(8, 0), maps, "decision")


def table(texts) -> pd.DataFrame:
    answers = {"memory_answer": " city1", "rule_answer": " city2"}
    return pd.DataFrame({"prompt": list(texts)}).assign(**answers)


def test_parts_of_a_table_are_steered_as_in_the_whole(counted, steering):
    shifts = np.random.default_rng(0).normal(size=(3, 2, 16))

    def scores(of: Steering, texts):
        every = torch.arange(3 * len(texts))
        sweep = of.sweep(shifts, table(texts))
        _, log = sweep.read(every // len(texts), every % len(texts))
        return log.reshape(3, len(texts), -1)

    fresh = Steering(*(getattr(steering, name) for name in FRESH))
    whole = scores(fresh, [*SHORT, *LONG])
    assert whole.std(dim=(0, 1)).min() > 0.1
    counted.passed.clear()
    for texts, rows in (([*SHORT, *LONG], range(8)), ([LONG[2], SHORT[1], LONG[2]], [6, 1, 6])):
        found = scores(steering, texts)
        torch.testing.assert_close(found, whole[:, list(rows)], rtol=1e-4, atol=1e-4)
    found = scores(steering.at(steering.maps), LONG)
    torch.testing.assert_close(found, whole[:, 4:], rtol=1e-4, atol=1e-4)
    assert sum(counted.passed) == 8


def test_what_is_asked_once_is_not_kept_and_trained_tasks_keep_nothing(counted, steering):
    steering.outcomes(np.zeros((1, 2, 16)), table(SHORT))
    size = steering.kept.size
    steering.once.outcomes(np.zeros((1, 2, 16)), table(LONG))
    assert steering.kept.size == size and sum(counted.passed) == 8
    trained = Steering(counted.model, counted.tokenizer, Inference(3, 0), steering.maps, "decision")
    assert trained.kept is None and trained.once.kept is None


@pytest.mark.parametrize("positions", ["all", "decision"])
def test_a_table_is_run_once_and_says_bit_for_bit_what_it_would_without(alike, positions):
    steering, frame, _ = alike
    rows, others = (frame[frame.kind == kind][:9] for kind in ("free", "keyed"))
    again = steering.again
    every, prompts = torch.zeros(9, dtype=torch.long), torch.arange(9)
    for step, asked in [(0.5, rows), (2.0, rows), (0.5, others), (1.0, rows)]:
        delta = np.zeros((1, 2, 8))
        delta[0, 1, 0] = step  # in the second layer: the first one is the same for all
        fresh = steering.sweep(delta, asked, positions).read(every, prompts)
        found = again.sweep(delta, asked, positions).read(every, prompts)
        assert all(torch.equal(*pair) for pair in zip(found, fresh, strict=True))
    assert again.at(again.maps).tables is again.tables and again.once.tables is None
    assert steering.tables is None and len(again.tables._held) == 2


def test_tables_keep_no_more_than_they_may_and_what_was_used_last(alike):
    steering, frame, _ = alike
    kept = Tables()
    parts = [steering.prompts(frame[i : i + 4]) for i in (0, 8, 16)]
    asked = []

    def pick(i: int) -> Unsteered:
        def run() -> Unsteered:
            asked.append(i)
            return Unsteered.of(steering.model, parts[i])

        with torch.inference_mode(), evaluating(steering.model):
            return kept.pick(parts[i], ("all",), run)

    assert pick(0) is pick(0) and pick(1) is not pick(0)
    kept.most = kept.size
    pick(2)  # 1 was used longer ago than 0
    assert pick(0) is pick(0) and asked == [0, 1, 2]
    pick(1)
    assert asked == [0, 1, 2, 1]
    kept.most = 0
    assert pick(2) is not None and kept.size == 0
    # a pass without inference mode is another one: gradients may go through it
    with torch.no_grad(), evaluating(steering.model):
        assert (
            not kept.pick(parts[0], ("all",), lambda: Unsteered.of(steering.model, parts[0]))
            .keys[0]
            .is_inference()
        )
