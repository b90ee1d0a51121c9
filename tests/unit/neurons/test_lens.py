"""The logit lens is the model cut short; margins are the model's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from memgen.errors import ArchitectureError
from memgen.models.build import build_model
from memgen.models.generate import tokenize_prompts
from memgen.neurons.lens import first_token_margins, lens_logits
from memgen.neurons.states import hidden_states


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_the_lens_at_the_last_layer_is_the_model_and_below_it_the_model_cut_short(
    planted, architecture
):
    _, tokenizer, *_, answered = planted()
    model = build_model(
        tokenizer,
        architecture=architecture,
        n_layer=3,
        n_embd=16,
        n_head=2,
        n_positions=16,
        initializer_range=0.3,
        seed=1,
    ).eval()
    prompts = list(answered.prompt[:20])
    tokens = np.random.default_rng(0).integers(0, len(tokenizer), (20, 4))
    lens = lens_logits(model, hidden_states(model, tokenizer, prompts, "resid_post"), tokens)
    assert lens.shape == (20, 3, 4)
    ids, mask = tokenize_prompts(tokenizer, prompts)
    blocks = model.base_model.h if architecture == "gpt2" else model.base_model.layers
    for depth in (3, 2):
        with torch.inference_mode():
            own = (
                model(
                    input_ids=ids,
                    attention_mask=mask,
                    position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
                )
                .logits[:, -1]
                .numpy()
            )
        np.testing.assert_allclose(
            lens[:, depth - 1], np.take_along_axis(own, tokens, axis=1), atol=1e-4
        )
        del blocks[depth - 1]
        model.config.num_hidden_layers = depth - 1


def test_an_unknown_architecture_is_named():
    class Other(torch.nn.Linear):
        pass

    with pytest.raises(ArchitectureError, match="final norm of Other.*GPT2LMHeadModel"):
        lens_logits(Other(2, 2), np.zeros((1, 1, 2)), np.zeros((1, 1), int))


def test_margins_are_those_of_the_model_and_missing_where_both_answers_begin_alike(planted):
    model, tokenizer, *_, answered = planted()
    rows = answered[:4].assign(memory_answer=["M", "M", "M", "R"])
    margins = first_token_margins(model, tokenizer, rows)
    with torch.inference_mode():
        for prompt, margin in zip(rows.prompt[:3], margins):
            logits = model(
                **tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)
            ).logits[0, -1]
            m, r = (logits[tokenizer.convert_tokens_to_ids(answer)].item() for answer in "MR")
            assert margin == pytest.approx(abs(r - m), abs=1e-4)
    assert np.isnan(margins[3])
