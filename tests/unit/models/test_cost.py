"""Costs computed from a shape, against what torch counts while a model runs."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from memgen.models.build import build_model
from memgen.models.cost import (
    SHAPES,
    Shape,
    answer_memory,
    answer_operations,
    pass_operations,
)
from memgen.models.tokenizer import build_tokenizer

ROWS, TOKENS, NEW = 3, 5, 4


@pytest.fixture(scope="module")
def model():
    tokenizer = build_tokenizer(list("abcdefgh"))
    sizes = {"n_layer": 2, "n_embd": 12, "n_head": 3, "n_positions": 16}
    return build_model(tokenizer, **sizes, initializer_range=0.1, seed=0).eval()


def counted(call) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def test_a_pass_is_counted_as_torch_counts_it(model):
    shape, ids = Shape.of(model.config), torch.full((ROWS, TOKENS), 3)
    whole = counted(lambda: model(ids, use_cache=False))
    assert whole == ROWS * pass_operations(shape, TOKENS, TOKENS)
    trunk = counted(lambda: model.base_model(ids, use_cache=False))
    assert trunk == ROWS * pass_operations(shape, TOKENS, 0)
    last = counted(lambda: model(ids, use_cache=False, logits_to_keep=1))
    assert last == ROWS * pass_operations(shape, TOKENS, 1)


def test_an_answer_is_counted_as_torch_counts_it(model):
    ids = torch.full((ROWS, TOKENS), 3)
    mask = torch.ones_like(ids)
    model.generation_config.eos_token_id = None  # all of its tokens

    def answer():
        model.generate(
            ids, attention_mask=mask, do_sample=False, max_new_tokens=NEW, pad_token_id=0
        )

    shape = Shape.of(model.config)
    assert counted(answer) == ROWS * answer_operations(shape, TOKENS, NEW)


def test_weights_are_those_of_the_matrices(model):
    matrices = sum(p.numel() for name, p in model.named_parameters() if p.ndim == 2)
    positions = model.transformer.wpe.weight.numel()
    shape = Shape.of(model.config)
    assert shape.parameters == matrices - positions
    kept = 2 * shape.layers * shape.width * ROWS * TOKENS
    assert answer_memory(shape, ROWS, TOKENS, size=4) == 4 * (shape.parameters + kept)


def test_the_larger_models_have_the_published_numbers_of_parameters():
    assert SHAPES["1B"].parameters == pytest.approx(1.236e9, rel=1e-3)  # LLaMA-3.2-1B
    assert SHAPES["8B"].parameters == pytest.approx(8.030e9, rel=1e-3)  # LLaMA-3.1-8B
