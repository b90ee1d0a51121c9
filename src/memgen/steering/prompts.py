"""Prompts as tokens, each with the two answers that it is judged by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from memgen.models.hooks import check_left_padded


@dataclass(frozen=True)
class Prompts:
    """Prompts as tokens, with the two answers each is judged by.

    `input_ids`, `attention_mask`: `[P, T]`, padded on the left; `candidates`: `[P, 2, A]`, the
    tokens of the memory's and the rule's answer with their end token, padded on the right with -1.
    Indexing selects prompts.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    candidates: torch.Tensor

    def __post_init__(self):
        check_left_padded(self.input_ids, self.attention_mask)
        if self.candidates.ndim != 3 or self.candidates.shape[:2] != (len(self.input_ids), 2):
            raise ValueError(
                f"candidates {list(self.candidates.shape)} is not [{len(self.input_ids)} prompts,"
                " 2, A]"
            )

    def __len__(self) -> int:
        return len(self.input_ids)

    def to(self, device) -> Prompts:
        return Prompts(
            self.input_ids.to(device), self.attention_mask.to(device), self.candidates.to(device)
        )

    def __getitem__(self, index) -> Prompts:
        return Prompts(self.input_ids[index], self.attention_mask[index], self.candidates[index])


def make_prompts(
    tokenizer, prompts: Sequence[str], memory_answers: Sequence[str], rule_answers: Sequence[str]
) -> Prompts:
    """Tokenize prompts and both answers (each followed by the tokenizer's end token)."""
    if not len(prompts) == len(memory_answers) == len(rule_answers):
        raise ValueError(
            f"{len(prompts)} prompts, {len(memory_answers)} memory_answers and {len(rule_answers)}"
            " rule_answers"
        )
    if tokenizer.eos_token_id is None:
        raise ValueError("tokenizer has no end token (eos_token)")
    if not len(prompts):
        raise ValueError("prompts is empty")

    def answers(texts):
        return [
            ids + [tokenizer.eos_token_id]
            for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        ]

    ids = tokenizer(list(prompts))["input_ids"]
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    memory, rule = answers(memory_answers), answers(rule_answers)
    width, length = max(map(len, ids)), max(map(len, memory + rule))
    return Prompts(
        torch.tensor([[pad] * (width - len(row)) + row for row in ids]),
        torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids]),
        torch.tensor(
            [[row + [-1] * (length - len(row)) for row in pair] for pair in zip(memory, rule)]
        ),
    )
