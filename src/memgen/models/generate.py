"""What a model writes: greedy answers, samples, first-token scores. The only caller of `generate`.

Decoding is greedy (temperature 0) unless a name says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from memgen.models.checkpoint import check_room, plain_decoding
from memgen.models.hooks import capture, evaluating, position_ids, record
from memgen.models.room import fitting, fitting_logits, in_order, passes
from memgen.models.sites import bare
from memgen.phases import phase

MOST = 512  # rows in one pass, at most


def tokenize_prompts(tokenizer, prompts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Left-padded ids and mask `[n, length]`, so that the last column is the decision position."""
    batch = tokenizer(
        prompts, return_tensors="pt", padding=True, padding_side="left", return_token_type_ids=False
    )
    return batch["input_ids"], batch["attention_mask"]


@contextmanager
def _decoding_of(core, config) -> Iterator[None]:
    """Inside, `core` decodes as `config` says, whatever it brought along.

    Given as an argument instead, a configuration would be filled up from the model's own.
    """
    own = core.generation_config
    core.generation_config = config
    try:
        yield
    finally:
        core.generation_config = own


def _continued(model, tokenizer, ids: torch.Tensor, mask: torch.Tensor, length: int, **sampling):
    """The new tokens of every row, at most `length`."""
    check_room(model, mask, length)
    core = bare(model)
    with _decoding_of(core, plain_decoding(tokenizer, max_new_tokens=length, **sampling)):
        output = core.generate(input_ids=ids.to(model.device), attention_mask=mask.to(model.device))
    return output[:, ids.shape[1] :]


def _texts(tokenizer, tokens: torch.Tensor) -> list[str]:
    """Every row of tokens as text, up to its end mark."""
    end, rows = tokenizer.eos_token_id, tokens.tolist()
    return [tokenizer.decode(row[: row.index(end)] if end in row else row) for row in rows]


@phase("answers", unless_inside=True)
@torch.inference_mode()
def answer(
    model, tokenizer, prompts: list[str], max_new_tokens: int, batch_size: int = 512
) -> list[str]:
    """Greedy answers, without the end mark; a batch ends when all its answers have.

    `batch_size`: at most; fewer where they would not fit into memory.
    """
    texts: list[str] = []
    longest = max(map(len, tokenizer(prompts)["input_ids"])) if prompts else 1
    batch_size = fitting(model, longest, batch_size)
    for start in range(0, len(prompts), batch_size):
        ids, mask = tokenize_prompts(tokenizer, prompts[start : start + batch_size])
        texts += _texts(tokenizer, _continued(model, tokenizer, ids, mask, max_new_tokens))
    return texts


@phase("answers", unless_inside=True)
@torch.inference_mode()
def next_token_scores(model, ids: torch.Tensor, mask: torch.Tensor) -> dict[str, np.ndarray]:
    """First token's `answer_margin` (log-probability over the second), `entropy` in nats; `[n]`."""
    # a pass at a time: of a large vocabulary the scores of all prompts would be gigabytes
    done, scores = zip(
        *((rows, first_token_scores(log)) for rows, log in _first_tokens(model, ids, mask))
    )
    return _by_name(list(scores), list(done))


def first_token_scores(log: torch.Tensor) -> dict[str, torch.Tensor]:
    """Margin and entropy of log-probabilities `[rows, vocabulary]`."""
    top = log.topk(2, dim=-1).values
    return {"answer_margin": top[:, 0] - top[:, 1], "entropy": -(log.exp() * log).sum(-1)}


def _by_name(
    scores: list[dict[str, torch.Tensor]], done: list[torch.Tensor]
) -> dict[str, np.ndarray]:
    """`first_token_scores` of passes over these rows, in the order of the rows."""
    names = scores[0] if scores else ()
    return {name: in_order([one[name] for one in scores], done).numpy() for name in names}


@phase("capture")
@torch.inference_mode()
def states_and_scores(
    model, ids: torch.Tensor, mask: torch.Tensor, site: str
) -> tuple[torch.Tensor, dict[str, np.ndarray]]:
    """What `hooks.capture` and `next_token_scores` find, to the bit, and from one pass if theirs are alike.

    They are where not all logits fit at once; else all prompts are scored in one pass, and read in others.
    """
    if _fit(model, ids):
        return capture(model, ids, mask, site), next_token_scores(model, ids, mask)
    done, states, scores = [], [], []
    with record(model, site, last=True) as seen, evaluating(model):
        for rows, log in _first_tokens(model, ids, mask):
            done.append(rows)
            states.append(torch.stack(seen, dim=1).float().cpu())
            scores.append(first_token_scores(log))
    return in_order(states, done), _by_name(scores, done)


@phase("answers", unless_inside=True)
@torch.inference_mode()
def first_token_log_probabilities(model, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """`[n, vocabulary]`, of the first answer token; `ids`, `mask` as from `tokenize_prompts`."""
    rows, found = zip(*_first_tokens(model, ids, mask))
    return in_order(list(found), list(rows))


def _fit(model, ids: torch.Tensor) -> bool:
    """Do the logits of all these tokens fit into memory at once?"""
    return fitting_logits(model, ids.shape[1], len(ids)) == len(ids)


def _first_tokens(
    model, ids: torch.Tensor, mask: torch.Tensor
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """`(rows, log-probabilities [rows, vocabulary] of their first answer token)`, pass by pass."""
    check_room(model, mask, 1)
    ids, mask = ids.to(model.device), mask.to(model.device)
    everything = _fit(model, ids)
    # where not all logits fit at once, only those of the last token are computed
    few = {} if everything else {"logits_to_keep": 1}
    parts = [(torch.arange(len(ids)), 0)] if everything else passes(model, mask, MOST)
    for rows, column in parts:
        seen = mask[rows, column:]
        logits = model(
            input_ids=ids[rows, column:],
            attention_mask=seen,
            position_ids=position_ids(seen),
            use_cache=False,
            **few,
        ).logits
        yield rows, logits[:, -1].float().log_softmax(-1).cpu()


@dataclass(frozen=True)
class Sampling:
    """`n_samples` answers per prompt at `temperature`; the random stream depends on `seed`."""

    n_samples: int
    temperature: float
    seed: int


@phase("answers", unless_inside=True)
@torch.inference_mode()
def sample_answers(
    model,
    tokenizer,
    prompts: list[str],
    max_new_tokens: int,
    sampling: Sampling,
    batch_size: int = 512,
) -> list[list[str]]:
    """Sampled answers to each prompt, without the end mark; the caller's random stream is kept."""
    n, texts = sampling.n_samples, []
    per_batch = max(1, batch_size // n)
    how = {"do_sample": True, "temperature": sampling.temperature, "top_k": 0, "top_p": 1.0}
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(sampling.seed)
        for start in range(0, len(prompts), per_batch):
            ids, mask = tokenize_prompts(tokenizer, prompts[start : start + per_batch])
            drawn = _texts(
                tokenizer,
                _continued(
                    model, tokenizer, ids, mask, max_new_tokens, num_return_sequences=n, **how
                ),
            )
            texts += [drawn[i : i + n] for i in range(0, len(drawn), n)]
    return texts


@phase("answers", unless_inside=True)
@torch.inference_mode()
def decode(
    model, tokenizer, ids: torch.Tensor, mask: torch.Tensor, max_new_tokens: int
) -> torch.Tensor:
    """Greedy continuation of left-padded rows, `[rows, max_new_tokens]` (CPU), -1 after the end."""
    output = _continued(model, tokenizer, ids, mask, max_new_tokens).cpu()
    output = torch.nn.functional.pad(
        output, (0, max_new_tokens - output.shape[1]), value=tokenizer.eos_token_id
    )
    is_end = (output == tokenizer.eos_token_id).long()
    return output.masked_fill(is_end.cumsum(-1) - is_end > 0, -1)
