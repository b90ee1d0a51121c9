"""How many rows of a batch fit into memory at once, so that a large model takes several passes.

The study's own models take whatever is asked of them: their batches are as large as the caller likes.
"""

from __future__ import annotations

import torch
from torch import nn

from memgen.models.sites import bare

BYTES = 2**30  # that one pass may take beside the weights
_FLOAT = 4
A_PASS = (
    20  # tokens that a pass takes as long as, whatever it is over; measured with 135 M parameters
)
FEW = 8  # tokens of a row whose logits are there at once: answers are of one to four


def fitting(model: nn.Module, tokens: int, most: int) -> int:
    """Rows of `tokens` tokens in a pass: at most `most`, at least one.

    Per token of a row: keys and values of all layers, twice while they are copied, and what one block
    holds at a time; per row the logits of a few tokens, those of two answers among them.
    """
    config = bare(model).config
    width, heads = config.hidden_size, config.num_attention_heads
    inner = getattr(config, "intermediate_size", None) or 4 * width
    cached = getattr(config, "num_key_value_heads", None) or heads
    cached *= getattr(config, "head_dim", None) or width // heads
    per_token = 4 * config.num_hidden_layers * cached + 6 * width + 3 * inner
    per_row = tokens * per_token + FEW * config.vocab_size
    return max(1, min(most, BYTES // (_FLOAT * per_row)))


def passes(model: nn.Module, mask: torch.Tensor, most: int) -> list[tuple[torch.Tensor, int]]:
    """`(rows, first column)` of the passes over left-padded prompts of this mask `[n, positions]`.

    At most `most` rows each, in their order. Where fewer fit at once, prompts of about one length share a
    pass, which begins at the first column that any of them needs: else much of a large model's work is
    padding.
    """
    n, width = mask.shape
    rows = fitting(model, width, most) if n else most
    if rows == most:
        return [(some, 0) for some in torch.arange(n).split(most) if n]
    lengths = mask.sum(1).cpu()
    parts = [some for part in dealt(lengths) for some in part.split(rows)]
    return [(some, width - int(lengths[some].max())) for some in parts]


def dealt(tokens: torch.Tensor) -> list[torch.Tensor]:
    """Rows that have so many `tokens` `[n]` (CPU) each, dealt into passes in which each takes as many as all.

    A pass costs `A_PASS` tokens more, since the weights are read for it. Shorter rows come first, and those
    without a token not at all.
    """
    sizes = tokens[tokens > 0].unique().tolist()
    counts = [int((tokens == size).sum()) for size in sizes]
    # the least that passes over the rows of the first sizes cost, and where the last of them begins
    least, begins = [0], [0]
    for end in range(1, len(sizes) + 1):
        costs = [
            least[start] + A_PASS + sizes[end - 1] * sum(counts[start:end]) for start in range(end)
        ]
        begins.append(min(range(end), key=costs.__getitem__))
        least.append(min(costs))
    by_size = tokens.argsort(stable=True)[int((tokens == 0).sum()) :]
    parts, end = [], len(sizes)
    while end:
        parts.append(by_size[sum(counts[: begins[end]]) : sum(counts[:end])])
        end = begins[end]
    return parts[::-1]


def in_order(found: list[torch.Tensor], rows: list[torch.Tensor]) -> torch.Tensor:
    """What passes over these rows found, `[rows of the pass, ...]` each, as one in the order of the rows."""
    return torch.cat(found)[torch.cat(rows).argsort()]


def fitting_logits(model: nn.Module, tokens: int, most: int) -> int:
    """The same where the logits of every token are computed."""
    return max(1, min(most, BYTES // (_FLOAT * tokens * bare(model).config.vocab_size)))
