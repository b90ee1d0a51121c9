"""Every road to an answer, on a folder as a hub holds it: they have to give the tokens found by hand."""

from __future__ import annotations

import torch

from memgen.models.generate import Sampling, answer, decode, sample_answers, tokenize_prompts
from memgen.steering.editing import Writer
from memgen.steering.engine import Decoding, run_cells
from memgen.steering.prompts import Prompts

NEW = 6
PROMPTS = [f"shift {n}: {word} ->" for n in (1, 12) for word in "dog a-b zebra owl".split()]


def check_answers(model, tokenizer, said: list[list[int]]) -> None:
    """The answering road gives these tokens."""
    end = tokenizer.eos_token_id
    texts = [tokenizer.decode([token for token in row if token != end]) for row in said]
    assert answer(model, tokenizer, PROMPTS, NEW) == texts


def check_roads(model, tokenizer, said: list[list[int]]) -> None:
    """All roads give these tokens: `answer`, `decode`, the sweep without a shift, patching's writer."""
    check_answers(model, tokenizer, said)
    end = tokenizer.eos_token_id
    ids, mask = tokenize_prompts(tokenizer, PROMPTS)
    rows = [row + [-1] * (NEW - len(row)) for row in said]
    assert decode(model, tokenizer, ids, mask, NEW).tolist() == rows
    candidates = torch.tensor([[row, [0, end] + [-1] * (NEW - 2)] for row in rows])
    prompts = Prompts(ids, mask, candidates)
    n_layer, width = model.config.num_hidden_layers, model.config.hidden_size
    for positions in ("all", "decision"):
        codes = run_cells(
            model,
            prompts,
            torch.zeros(1, n_layer, width),
            Decoding("resid_post", positions, NEW, end),
        )
        assert codes.tolist() == [[0] * len(PROMPTS)]
    assert Writer(model, NEW, end).write(prompts).tokens.tolist() == rows
    cold = sample_answers(model, tokenizer, PROMPTS, NEW, Sampling(1, 1e-4, 0))
    assert [text for (text,) in cold] == answer(model, tokenizer, PROMPTS, NEW)
