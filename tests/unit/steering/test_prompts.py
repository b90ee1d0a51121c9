"""Prompts as tokens: what is missing is named, answers get nothing but their end token."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from memgen.steering import prompts as module
from memgen.steering.prompts import Prompts, make_prompts


def tokenizer_of(**special) -> PreTrainedTokenizerFast:
    """One token a character; every text is begun with a mark, as many a pretrained tokenizer does."""
    tokens = ["<pad>", "<eos>", "<begin>", *"0123456789+="]
    backend = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, "<pad>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    backend.post_processor = processors.TemplateProcessing(
        single="<begin> $A", special_tokens=[("<begin>", 2)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def test_prompts_begin_as_the_tokenizer_begins_a_text_and_answers_do_not():
    tokenizer = tokenizer_of(pad_token="<pad>", eos_token="<eos>")
    found = make_prompts(tokenizer, ["1=", "10="], ["7", "8"], ["3", "12"])
    assert found.input_ids.tolist() == [[0, 2, 4, 14], [2, 4, 3, 14]]
    assert found.attention_mask.tolist() == [[0, 1, 1, 1], [1, 1, 1, 1]]
    assert found.candidates.tolist() == [[[10, 1, -1], [6, 1, -1]], [[11, 1, -1], [4, 5, 1]]]


def test_a_tokenizer_without_a_pad_token_pads_with_its_end_token():
    found = make_prompts(tokenizer_of(eos_token="<eos>"), ["1=", "10="], ["7", "8"], ["3", "1"])
    assert found.input_ids.tolist() == [[1, 2, 4, 14], [2, 4, 3, 14]]
    assert found.attention_mask.tolist() == [[0, 1, 1, 1], [1, 1, 1, 1]]


def test_what_is_missing_is_named():
    with pytest.raises(ValueError, match="^tokenizer has no end token"):
        make_prompts(tokenizer_of(pad_token="<pad>"), ["1"], ["1"], ["1"])
    tokenizer = tokenizer_of(pad_token="<pad>", eos_token="<eos>")
    with pytest.raises(ValueError, match="^prompts is empty$"):
        make_prompts(tokenizer, [], [], [])
    with pytest.raises(ValueError, match="^2 prompts, 2 memory_answers and 1 rule_answers$"):
        make_prompts(tokenizer, ["1", "2"], ["1", "2"], ["1"])


def test_all_three_tensors_go_to_the_device(monkeypatch):
    monkeypatch.setattr(module, "check_left_padded", lambda ids, mask: None)  # it reads numbers
    ids = torch.ones(2, 3, dtype=torch.long)
    moved = Prompts(ids, ids, torch.full((2, 2, 4), -1)).to("meta")
    tensors = (moved.input_ids, moved.attention_mask, moved.candidates)
    assert [tensor.device.type for tensor in tensors] == ["meta"] * 3
