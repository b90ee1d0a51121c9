"""The margin is what the unsteered model says."""

from __future__ import annotations

import numpy as np
import torch

from memgen.models.generate import first_token_log_probabilities
from memgen.steering import margins as module
from memgen.steering.cells import cell_shift
from memgen.steering.margins import margins
from memgen.terms import SIGN
from steered import case_of


def test_margin_is_what_the_unsteered_model_says_and_a_zero_shift_changes_nothing(alike):
    steering, case = alike[0], case_of(alike, "m2g")
    log = first_token_log_probabilities(
        steering.model, case.prompts.input_ids, case.prompts.attention_mask
    )
    memory, rule = (steering.tokenizer.convert_tokens_to_ids(token) for token in "MR")
    one = SIGN["m2g"] * cell_shift(case.cell, steering.nmd, steering.rho)
    found = margins(steering, np.stack([0 * one, one]), case.prompts)
    np.testing.assert_allclose(found[0], (log[:, rule] - log[:, memory]).numpy(), atol=1e-6)
    assert (found[0] < 0).all() and (found[1] > 0).all()
    assert margins(steering, np.zeros((3, 2, 8)), None).shape == (3, 0)


def test_shifts_and_prompts_of_several_passes_stay_together(alike, monkeypatch):
    """Passes of 7 rows: some hold the end of one shift's prompts and the start of the next one's."""
    steering, case = alike[0], case_of(alike, "m2g")
    one = cell_shift(case.cell, steering.nmd, steering.rho)
    stack = np.stack([factor * one for factor in (-1.0, 0.0, 0.5, 2.0)])
    n = len(case.prompts)
    alone = [
        [
            float(margins(steering, shift[None], case.prompts[torch.tensor([row])])[0, 0])
            for row in range(n)
        ]
        for shift in stack
    ]
    monkeypatch.setattr(module, "ROWS", 7)
    found = margins(steering, stack, case.prompts)
    assert found.shape == (4, n) and n % 7 and found.dtype == np.float64
    np.testing.assert_allclose(found, alone, atol=1e-5)
    assert (np.diff(found, axis=0) > 0).all()  # the further towards the rule, the larger
