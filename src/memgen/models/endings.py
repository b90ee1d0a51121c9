"""Where an answer ends: at the end mark, or, in free text, where the next word begins.

A model that was trained on the study's data sets closes every answer with its end mark. A pretrained one
goes on writing: " Tokyo" is its answer whether a full stop, a line break or another word follows, and
" Tokyoite" or " Tokyo-based" is another one. Candidates have the end mark as their last token in both
cases; in free text any token that begins a new word counts as that mark.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch

from memgen.tasks import Task

#: what continues a word beside letters and digits: hyphens and apostrophes
WITHIN = "-\u2010\u2011'\u2019"
#: stands for bytes that are no letter yet: the first part of one that takes several tokens
_PART = "\ufffd"
SCORES = 2**24  # logits that are copied at once


def ends_of(tokenizer: Any, task: Task) -> torch.Tensor | None:
    """Which tokens end an answer of this task, bool `[vocabulary]`; None: the end mark alone."""
    return _begin_a_word(tokenizer) if task.open_ended else None


@lru_cache(maxsize=2)
def _begin_a_word(tokenizer: Any) -> torch.Tensor:
    """Bool `[vocabulary]`: does the token, after a letter, begin something new? Special tokens do."""
    n = max(tokenizer.get_vocab().values()) + 1
    # decoded behind a letter: some tokenizers drop a space at the beginning of a text
    (before,) = tokenizer("a", add_special_tokens=False)["input_ids"][:1]
    letter = tokenizer.decode([before])
    texts = tokenizer.batch_decode([[before, token] for token in range(n)])
    found = torch.tensor([_new_word(text[len(letter) :]) for text in texts])
    found[[*tokenizer.all_special_ids]] = True
    return found


def _new_word(text: str) -> bool:
    return bool(text) and not (text[0].isalnum() or text[0] in WITHIN or text[0] == _PART)


def agree(
    wanted: torch.Tensor,
    written: torch.Tensor,
    end: int,
    ends: torch.Tensor | None,
    first: int = 0,
) -> torch.Tensor:
    """Which written tokens `[..., A]` are the wanted ones, bool; both padded with -1 behind their ends.

    In free text (`ends` `[vocabulary]`) any of the ends counts as the mark `end`, and what comes behind
    the wanted end does not matter. `first`: the place in the answer of the first of these tokens; the
    token in place 0 begins the answer and ends nothing.
    """
    if ends is None:
        return wanted == written
    at = padded(ends, max(len(ends), int(written.max()) + 1)) if written.numel() else ends
    ended = at.to(written.device)[written.clamp(min=0)] & (written >= 0)
    places = torch.arange(first, first + written.shape[-1], device=written.device)
    return (wanted == written) | ((wanted == end) & ended & (places > 0)) | (wanted < 0)


def ahead(
    logits: torch.Tensor, wanted: torch.Tensor, end: int, ends: torch.Tensor | None
) -> torch.Tensor:
    """Logit of each row's `wanted` tokens `[rows, K]` less the highest other one; inf for -1.

    `logits`: `[rows, vocabulary]`. In free text: the best of the ends against the best of the others.
    """
    own = logits.gather(1, wanted.clamp(min=0))
    best, place = logits.topk(2)
    other = torch.where(wanted == place[:, :1], best[:, 1:], best[:, :1])
    found = own - other
    if ends is not None and (ending := wanted == end).any():
        at = padded(ends, logits.shape[-1]).to(logits.device)
        of_ends, of_others = (_best_but(logits, out) for out in (~at, at))
        found = torch.where(ending, of_ends - of_others, found)
    return found.float().masked_fill(wanted < 0, torch.inf)


def _best_but(logits: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """The highest logit of each row `[rows, 1]` but those that are `out` `[vocabulary]`; a few rows at a
    time, so that logits of a large vocabulary are not copied whole.
    """
    some = max(1, SCORES // logits.shape[-1])
    parts = [part.masked_fill(out, -torch.inf).amax(-1) for part in logits.split(some)]
    return torch.cat(parts)[:, None]


def padded(ends: torch.Tensor, rows: int) -> torch.Tensor:
    """`ends` for a model whose embedding has more `rows` than the tokenizer has tokens: these end all."""
    return torch.nn.functional.pad(ends, (0, max(0, rows - len(ends))), value=True)[:rows]
