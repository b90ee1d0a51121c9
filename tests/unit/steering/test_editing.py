"""What is written under edits: many cells at once, each row under its own cell's edit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from memgen.models.build import build_model
from memgen.models.tokenizer import build_tokenizer
from memgen.steering.editing import Reach, Writer
from memgen.steering.prompts import Prompts
from memgen.steering.steering import steering_prompts
from memgen.steering.unsteered import ROWS
from memgen.terms import CODE


def test_a_writer_answers_as_long_and_ends_as_the_steered_model_does(alike):
    steering, _, _ = alike
    writer = Writer.of(steering)
    assert writer.model is steering.model
    assert writer.length == 2 and writer.end == steering.tokenizer.eos_token_id


def test_every_prompt_is_answered_under_every_cell_over_many_batches(alike):
    """Coordinate 0 decides: M below 0.6, R up to 2.5, X above; it is 0 or 1 in the prompts."""
    steering, _, answered = alike
    some = [steering_prompts(answered, "test", direction, 6) for direction in ("m2g", "g2m")]
    rows = pd.concat(some)
    state = np.where(rows.prompt.str.endswith("near-rule"), 1.0, 0.0)
    steps = np.random.default_rng(0).choice([-1.0, 0.0, 1.0, 2.0, 4.0], size=60)
    assert len(steps) * len(rows) > ROWS
    shifts = torch.zeros(len(steps), 8)
    shifts[:, 0] = torch.from_numpy(steps)
    writer = Writer.of(steering)
    found = writer.cells(
        steering.prompts(rows),
        len(steps),
        lambda cells: {("resid_post", 1): lambda vector: vector + shifts[cells, None]},
    )
    reached = steps[:, None] + state
    expected = np.select(
        [reached < 0.6, reached < 2.5], [CODE["memorization"], CODE["generalization"]], 2
    )
    np.testing.assert_array_equal(found, expected)
    assert set(np.unique(found)) == {0, 1, 2}


def test_edits_of_cells_hold_over_the_answer_only_when_asked():
    """The candidates are what cell 1 writes when its edit holds over the prompt, or all along."""
    tokenizer = build_tokenizer([f"w{i} " for i in range(12)])
    sizes = {"n_layer": 2, "n_embd": 16, "n_head": 2, "n_positions": 16}
    model = build_model(tokenizer, **sizes, initializer_range=0.6, seed=1).eval()
    rng = np.random.default_rng(0)
    ids = torch.from_numpy(rng.integers(2, 12, (6, 5)))
    empty = Prompts(ids, torch.ones_like(ids), torch.zeros(6, 2, 4, dtype=torch.long))
    shifts = torch.from_numpy(rng.normal(0, 1.5, (3, 16)).astype(np.float32))
    writer = Writer(model, 4, tokenizer.eos_token_id)

    def edits_of(cells):
        return {("resid_post", 0): lambda vector: vector + shifts[cells, None]}

    one = [
        writer.write(
            empty, lambda rows: edits_of(torch.ones_like(rows)), Reach(generated=along)
        ).tokens
        for along in (False, True)
    ]
    differ = (one[0] != one[1]).any(1)
    assert differ.any()
    prompts = Prompts(ids, empty.attention_mask, torch.from_numpy(np.stack(one, axis=1)))
    assert (writer.cells(prompts, 3, edits_of)[1] == CODE["memorization"]).all()
    along = writer.cells(prompts, 3, edits_of, Reach(generated=True))
    assert along.shape == (3, 6)
    assert along[1].tolist() == np.where(differ, CODE["generalization"], 0).tolist()
    assert (along[[0, 2]] == CODE["other"]).any()  # the other cells write something else
