"""Rows per pass: all of them in small models, few in large ones."""

import numpy as np
import torch

from capitals import asked_model, llama
from memgen.models import generate, hooks, room
from memgen.models.generate import first_token_log_probabilities, tokenize_prompts
from memgen.models.hooks import capture


def test_small_models_take_all_and_large_ones_what_fits():
    model, _ = asked_model()
    assert room.fitting(model, 32, 512) == 512
    with torch.device("meta"):
        large = llama(
            None,
            hidden_size=576,
            intermediate_size=1536,
            num_hidden_layers=30,
            num_attention_heads=9,
            num_key_value_heads=3,
            vocab_size=49152,
        )
    rows = room.fitting(large, 60, 512)
    kept = 2 * 30 * 3 * 64 * 60 * 4  # bytes of a row's keys and values
    assert 32 <= rows <= 256 and 2 * rows * kept <= room.BYTES
    assert room.fitting_logits(large, 60, 512) * 60 * 49152 * 4 <= room.BYTES
    assert room.fitting(large, 10**6, 512) == 1


def test_passes_of_few_rows_give_the_same(monkeypatch):
    model, tokenizer = asked_model()
    prompts = [f"The capital of place{i} is" for i in range(8)] + ["In place1 lies"]
    ids, mask = tokenize_prompts(tokenizer, prompts)
    states, scores = capture(model, ids, mask), first_token_log_probabilities(model, ids, mask)
    answers = generate.answer(model, tokenizer, prompts, 3)
    sizes = []

    def few(core, tokens, most):
        sizes.append(min(2, most))
        return sizes[-1]

    for module, name in ((generate, "fitting"), (generate, "fitting_logits"), (hooks, "fitting")):
        monkeypatch.setattr(module, name, few)
    np.testing.assert_allclose(capture(model, ids, mask), states, rtol=1e-3, atol=1e-3)
    found = first_token_log_probabilities(model, ids, mask)
    np.testing.assert_allclose(found, scores, rtol=1e-3, atol=1e-3)
    assert generate.answer(model, tokenizer, prompts, 3) == answers
    assert sizes == [2, 2, 2]
