"""Detectors that see how likely the model finds what it reads and writes, token by token."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from memgen.models.forced import ROWS, Expected
from memgen.models.hooks import evaluating
from memgen.models.room import fitting_logits
from memgen.phases import phase
from memgen.rivals.detectors.detector import Found, oriented, strongest


@dataclass(frozen=True)
class Likelihoods:
    """Of n prompts with their greedy answers; natural logarithms, padded with nan.

    `prompt` `[n, T]`: of each of its tokens but the first; `answer` `[n, A]`: of the answer's, the end
    mark included; `tempered` `[n, A]`: the same at a temperature; `margin`, `entropy` `[n]`: of the
    answer's first token, as `next_token_scores` has them.
    """

    prompt: np.ndarray
    answer: np.ndarray
    tempered: np.ndarray
    margin: np.ndarray
    entropy: np.ndarray


@phase("answers", unless_inside=True)
@torch.inference_mode()
def likelihoods(model, tokenizer, rows: pd.DataFrame, temperature: float) -> Likelihoods:
    """One pass over each prompt and its `answer`, tokenized apart, as in decoding.

    Of a model that closes its answers with the end mark.
    """
    written = Expected.of(tokenizer, list(rows.prompt), list(rows.answer))
    n, length = written.ids.shape[0], written.ids.shape[1] - 1
    lengths = (written.answers >= 0).sum(1)
    place = torch.arange(1, length + 1)  # of the token whose logits these are
    own, tempered = torch.full((2, n, length), torch.nan).unbind()
    margin, entropy = torch.full((2, n), torch.nan).unbind()
    with evaluating(model):
        most = fitting_logits(model, max(length, 1), ROWS)
        for some in torch.arange(n).split(most) if n else ():
            ids = written.ids[some].to(model.device)
            logits = model(input_ids=ids[:, :-1], use_cache=False).logits.float()
            log = logits.log_softmax(-1)
            own[some] = _of(ids, log)
            tempered[some] = _of(ids, (logits / temperature).log_softmax(-1))
            first = log[torch.arange(len(some)), written.starts[some] - 1].cpu()
            top = first.topk(2, dim=-1).values
            margin[some] = top[:, 0] - top[:, 1]
            entropy[some] = -(first.exp() * first).sum(-1)
    starts = written.starts[:, None]
    in_prompt, after = place < starts, place - starts
    in_answer = (after >= 0) & (after < lengths[:, None])
    return Likelihoods(
        _numbers(own, in_prompt),
        _numbers(own, in_answer),
        _numbers(tempered, in_answer),
        margin.numpy(),
        entropy.numpy(),
    )


def _of(ids: torch.Tensor, log: torch.Tensor) -> torch.Tensor:
    """Log-probability `[rows, T - 1]` of each token of `[rows, T]` but the first, on the CPU."""
    return log.gather(2, ids[:, 1:, None])[..., 0].cpu()


def _numbers(found: torch.Tensor, where: torch.Tensor) -> np.ndarray:
    """Those `[n, T]` where it is true, float64, the others nan."""
    return found.double().masked_fill(~where, torch.nan).numpy()


def perplexity(log_probs: np.ndarray) -> np.ndarray:
    """`exp` of minus the mean of each row `[n, T]`."""
    found: np.ndarray = np.exp(-min_k(log_probs, 1.0))
    return found


def min_k(log_probs: np.ndarray, share: float) -> np.ndarray:
    """Mean of the lowest `share` of each row's numbers `[n, T]` (nan: none), of at least one; nan: of none.

    Source: Shi et al. (2024). Their code takes `int(T * share)` tokens, which is none for a short text,
    and reports the negative.
    """
    counts = (~np.isnan(log_probs)).sum(axis=1)
    taken = np.maximum(1, (counts * share).astype(int))
    sums = np.nancumsum(np.sort(log_probs, axis=1), axis=1)  # nan is sorted to the end
    found = sums[np.arange(len(sums)), np.minimum(taken, max(sums.shape[1], 1)) - 1] / taken
    return np.where(counts > 0, found, np.nan)


def peakedness(samples: Sequence[Sequence], greedy: Sequence, alpha: float) -> float:
    """CDD: the share of samples within `alpha` times the longest text's length of the greedy answer.

    Texts are sequences (of tokens); their distance is the number of edits. Source: Dong et al. (2024).
    """
    longest = max(len(greedy), *(len(sample) for sample in samples))
    return float(np.mean([edits(sample, greedy) <= alpha * longest for sample in samples]))


def edits(one: Sequence, other: Sequence) -> int:
    """Insertions, deletions and exchanges that turn one sequence into the other, at least."""
    row = np.arange(len(other) + 1)
    for i, token in enumerate(one, start=1):
        exchanged = row[:-1] + np.array([token != t for t in other], dtype=int)
        fresh = np.minimum(row[1:] + 1, exchanged)
        row = np.concatenate([[i], fresh])
        steps = np.arange(len(row))
        row = np.minimum.accumulate(row - steps) + steps  # insertions, from left to right
    return int(row[-1])


def drawn_peakedness(tempered: np.ndarray, n_samples: int, seed: list[int]) -> np.ndarray:
    """CDD's peakedness `[n]` at alpha 0, which is its mode for the field, of answers of few tokens.

    A sample counts where it is the greedy answer, and it is with the probability that `tempered`
    `[n, A]`, log-probabilities at the samples' temperature, multiply to: so many of `n_samples` are
    drawn. At alpha 0.05 no other sample counts either, unless an answer has 20 tokens.
    """
    return np.random.default_rng(seed).binomial(n_samples, exactly(tempered)) / n_samples


def exactly(log_probs: np.ndarray) -> np.ndarray:
    """The probability `[n]` of exactly this text, from its tokens' `[n, A]`."""
    found: np.ndarray = np.exp(np.nansum(log_probs, axis=1)).clip(0, 1)
    return found


def confidence_detectors(
    train: Likelihoods,
    test: Likelihoods,
    labels: np.ndarray,
    shares: Iterable[float],
    samples: tuple[int, int],
) -> dict[str, Found]:
    """All of this file; signs, and k of Min-k %, come from train keys with these labels `[n]`.

    `samples`: number of CDD's, and the seed of its draws.
    """
    shares, (n_samples, seed) = list(shares), samples
    found = {
        "answer_margin": oriented(train.margin, labels, test.margin),
        "entropy": oriented(train.entropy, labels, test.entropy),
        "perplexity": oriented(perplexity(train.answer), labels, perplexity(test.answer)),
        "greedy_probability": oriented(exactly(train.tempered), labels, exactly(test.tempered)),
    }
    old, new = (
        drawn_peakedness(of.tempered, n_samples, [seed, side])
        for side, of in enumerate((train, test))
    )
    found["peakedness"] = oriented(old, labels, new)
    for part in ("prompt", "answer"):
        tried = {
            f"k {share:.0%}": oriented(
                min_k(getattr(train, part), share), labels, min_k(getattr(test, part), share)
            )
            for share in shares
        }
        found[f"min_k_{part}"] = strongest(tried)
    return found
