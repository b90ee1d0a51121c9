"""What a model answers, and which behaviour that is.

What else could explain that a behaviour is foretold: the words, the answer itself, chance, the
key.

Five ways to be fooled, each measured on one model. Labels are 1 = generalization, 0 = memorization.
Whatever is fitted or chosen uses train keys; whatever is reported comes from test keys, but for the
comparison of two splits, which stays among train keys. Intervals are a bootstrap over keys. A
number that does not exist (no such pair, one behaviour only) is nan in the tables and None in the
result.

Open points of the reviewers: clusters and synergy, whether the flip is binary, why the
directions differ, an instruction instead, hybrid prompts.

The cell of each direction is the one that lab 06 chose on validation keys; nothing is chosen here,
and everything that is reported comes from test keys. The *margin* is log p(first token of the
rule's answer) - log p(first token of the memory's) at the decision position: positive leans to the
rule. Prompts whose two answers begin with the same token have none and are left out wherever it is
used.
"""

from __future__ import annotations

import numpy as np
import torch

from memgen.models.hooks import position_ids


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


@torch.inference_mode()
def sample_answers(
    model,
    tokenizer,
    prompts: list[str],
    n_samples: int,
    temperature: float,
    max_new_tokens: int,
    seed: int,
    batch_size: int = 512,
) -> list[list[str]]:
    """`n_samples` answers to each prompt, drawn from the whole vocabulary at `temperature`, without
    the end mark. `batch_size`: answers at a time.

    The caller's stream of random numbers is left as it was.
    """
    per_batch, texts = max(1, batch_size // n_samples), []
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(seed)
        for start in range(0, len(prompts), per_batch):
            ids, mask = tokenize_prompts(tokenizer, prompts[start : start + per_batch])
            output = model.generate(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                max_new_tokens=max_new_tokens,
                do_sample=True,
                temperature=temperature,
                top_k=0,
                top_p=1.0,
                num_return_sequences=n_samples,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=tokenizer.eos_token_id,
            )
            rows = output[:, ids.shape[1] :].tolist()
            decoded = [
                tokenizer.decode(
                    row[: row.index(tokenizer.eos_token_id)]
                    if tokenizer.eos_token_id in row
                    else row
                )
                for row in rows
            ]
            texts += [decoded[i : i + n_samples] for i in range(0, len(decoded), n_samples)]
    return texts


@torch.inference_mode()
def decode(
    model, tokenizer, ids: torch.Tensor, mask: torch.Tensor, max_new_tokens: int
) -> torch.Tensor:
    """Greedy continuation of left-padded rows, `[rows, max_new_tokens]`, on the CPU; after its end
    token a row is -1.
    """
    output = model.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )[:, ids.shape[1] :].cpu()
    output = torch.nn.functional.pad(
        output, (0, max_new_tokens - output.shape[1]), value=tokenizer.eos_token_id
    )
    is_end = (output == tokenizer.eos_token_id).long()
    return output.masked_fill(is_end.cumsum(-1) - is_end > 0, -1)
