"""The logit lens is the model cut short; margins are the model's own."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing

from memgen.errors import ArchitectureError
from memgen.models.build import build_model
from memgen.models.generate import tokenize_prompts
from memgen.neurons.lens import (
    answer_scores,
    first_token_margins,
    first_tokens,
    lens_error,
    lens_logits,
)
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

    with pytest.raises(ArchitectureError, match="architecture Other is unknown.*GPT2LMHeadModel"):
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


def test_first_tokens_and_their_scores_are_the_models_own(planted):
    model, tokenizer, _, _, answered = planted()
    rows = answered[:6].reset_index(drop=True)
    tokens = first_tokens(tokenizer, rows)
    assert tokens.tolist() == [tokenizer.convert_tokens_to_ids(["M", "R"])] * 6
    none = first_tokens(tokenizer, rows[:0])
    assert none.shape == (0, 2) and none.dtype == np.int64
    begins = copy.deepcopy(tokenizer)  # as tokenizers of pretrained models: a mark before any text
    begins._tokenizer.post_processor = TemplateProcessing(
        single="<eos> $A", special_tokens=[("<eos>", tokenizer.eos_token_id)]
    )
    assert begins("M")["input_ids"][0] == tokenizer.eos_token_id
    np.testing.assert_array_equal(first_tokens(begins, rows), tokens)
    found = answer_scores(model, tokenizer, rows, tokens)
    for row, text in enumerate(rows.prompt):
        with torch.inference_mode():
            logits = model(torch.tensor([tokenizer(text)["input_ids"]])).logits[0, -1]
        expected = logits.log_softmax(-1)[torch.as_tensor(tokens[row])]
        np.testing.assert_allclose(found[row], expected, atol=1e-4)


def test_the_lens_error_is_the_largest_gap_in_units_of_the_largest_margin(planted):
    model, tokenizer, _, _, answered = planted()
    rows = answered[:6].reset_index(drop=True)
    tokens = first_tokens(tokenizer, rows)
    pair = answer_scores(model, tokenizer, rows, tokens)
    own = pair[:, 1] - pair[:, 0]
    assert lens_error(model, tokenizer, rows, tokens, own) == 0
    off = own.copy()
    off[2] -= 0.5
    off[4] += 0.25
    expected = 0.5 / max(1.0, np.abs(own).max())
    assert lens_error(model, tokenizer, rows, tokens, off) == pytest.approx(expected, rel=1e-5)
    assert np.isnan(lens_error(model, tokenizer, rows[:0], tokens[:0], own[:0]))
