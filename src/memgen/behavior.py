"""What a model answers, and which behaviour that is."""

from __future__ import annotations

import numpy as np
import torch

from .hooks import position_ids
from .tasks import BEHAVIORS, Instance, Task

CODE = {
    name: code for code, name in enumerate(BEHAVIORS)
}  # memorization 0, generalization 1, other 2


def tokenize_prompts(tokenizer, prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Left-padded ids and attention mask, both `[n, length]`, so that the last column is the
    decision position.
    """
    batch = tokenizer(
        prompts, return_tensors="pt", padding=True, padding_side="left", return_token_type_ids=False
    )
    return batch["input_ids"], batch["attention_mask"]


@torch.inference_mode()
def answer(
    model, tokenizer, prompts: list[str], max_new_tokens: int, batch_size: int = 512
) -> list[str]:
    """Greedy answers (temperature 0), without the end mark; a batch ends when all its answers have."""
    texts: list[str] = []
    for start in range(0, len(prompts), batch_size):
        ids, mask = tokenize_prompts(tokenizer, prompts[start : start + batch_size])
        output = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
        for row in output[:, ids.shape[1] :].tolist():
            if tokenizer.eos_token_id in row:
                row = row[: row.index(tokenizer.eos_token_id)]
            texts.append(tokenizer.decode(row))
    return texts


def behaviors(task: Task, rows: list[Instance], answers: list[str]) -> np.ndarray:
    """The behaviour code (0 memorization, 1 generalization, 2 other) of each answer, int8 `[n]`."""
    return np.array(
        [CODE[task.classify(row, text)] for row, text in zip(rows, answers, strict=True)],
        dtype=np.int8,
    )


def rates(codes: np.ndarray) -> dict[str, float]:
    """Shares of the three behaviours: `memory_rate`, `rule_rate`, `other_rate`."""
    shares = np.bincount(codes, minlength=3) / max(1, len(codes))
    return dict(zip(("memory_rate", "rule_rate", "other_rate"), map(float, shares)))


def accuracy(rows: list[Instance], answers: list[str]) -> float:
    """Share of answers that equal what the instance was (or would be) trained on."""
    return float(
        np.mean(
            [text.strip() == row.target.strip() for row, text in zip(rows, answers, strict=True)]
        )
    )


@torch.inference_mode()
def next_token_scores(model, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, np.ndarray]:
    """What the model's own first-token distribution gives away: `answer_margin` (log-probability of
    the first token over the second) and `entropy` in nats, each `[n]`.
    """
    log = first_token_log_probabilities(model, ids, mask)
    top = log.topk(2, dim=-1).values
    return {
        "answer_margin": (top[:, 0] - top[:, 1]).numpy(),
        "entropy": -(log.exp() * log).sum(-1).numpy(),
    }


@torch.inference_mode()
def first_token_log_probabilities(model, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of the first answer token, `[n, vocabulary]`; `ids` and `mask` as
    `tokenize_prompts` gives them.
    """
    ids, mask = ids.to(model.device), mask.to(model.device)
    logits = model(
        input_ids=ids, attention_mask=mask, position_ids=position_ids(mask), use_cache=False
    ).logits
    return logits[:, -1].float().log_softmax(-1).cpu()
