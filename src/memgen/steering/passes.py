"""One pass for many rows: what they share is computed once, and what nobody reads is left out.

A *row* is a prompt under edits of its own. In the pass over its prompt

* the blocks below its first edit give what they give without edits, and so do all blocks at the
  tokens before the first edited one: both come from one unsteered pass per prompt (`Unsteered`);
* of the last block only the output at the last token is read, so the last map of its attention and
  its feed-forward part run on that token alone.

The answer is decoded from the cache that this pass leaves. A row leaves the batch as soon as its
answer is complete, or fits none of those that it is asked about.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from copy import copy
from dataclasses import dataclass

import torch
from torch import nn
from transformers import DynamicCache

from memgen.models.components import component_modules
from memgen.models.endings import agree, ahead
from memgen.models.hooks import position_ids, vector_of, with_vector
from memgen.models.room import dealt
from memgen.models.sites import bare, site_modules
from memgen.steering.unsteered import Unsteered, skipped

GONE = -2  # stands for the tokens of a row after it left, fitting no answer
#: the edits of the rows `[live]` that are still in the batch, in the pass of a step (0: the prompt)
Edits = Callable[[torch.Tensor, int], AbstractContextManager]


@contextmanager
def only_last_token(model: nn.Module) -> Iterator[None]:
    """Inside, the last block's output is right at the last position only; its cache is whole.

    The other positions of that block are read by nobody: no block follows. Vectors of its
    `attn_out`, `mlp_out`, `ln_2`, `heads` and `units` have one position, the last.
    """
    last = component_modules(model, "heads")[0][-1], site_modules(model, "ln_2")[-1]
    with ExitStack() as stack:
        for module in last:
            cut = module.register_forward_pre_hook(lambda _, args: (args[0][:, -1:], *args[1:]))
            stack.callback(cut.remove)
        yield


@dataclass(frozen=True)
class Batch:
    """Rows that go on from one place of the unsteered pass: row r is prompt `prompt[r]`.

    The first `skip` blocks, and all tokens but the last `back` (None: no token), are not computed
    again.
    """

    shared: Unsteered
    prompt: torch.Tensor
    skip: int = 0
    back: int | None = None

    def _tokens_before(self, length: int) -> int:
        return 0 if self.back is None else max(0, length - self.back)

    def begin(self):
        """Token ids, mask, positions, cache, and what the skipped blocks give (None: none is)."""
        prompts, prompt = self.shared.prompts, self.prompt
        ids, mask = prompts.input_ids[prompt], prompts.attention_mask[prompt]
        known, positions = self._tokens_before(ids.shape[1]), position_ids(mask)
        cache = DynamicCache()
        if known:
            for layer, (keys, values) in enumerate(self.shared.before(prompt, known)):
                cache.update(keys, values, layer)
        resumed = None
        if self.skip:
            below = self.shared.outputs[self.skip - 1]
            resumed = with_vector(below, vector_of(below)[prompt, known:])
        return ids[:, known:], mask, positions[:, known:], cache, resumed

    def complete(self, cache: DynamicCache, rows: torch.Tensor) -> None:
        """Give the cache what the skipped blocks would have left there, for the `rows` that go on."""
        prompt = self.prompt[rows]
        known = self._tokens_before(self.shared.prompts.input_ids.shape[1])
        for layer in range(self.skip):
            keys, values = self.shared.keys[layer], self.shared.values[layer]
            cache.update(keys[prompt, :, known:], values[prompt, :, known:], layer)


@dataclass(frozen=True)
class Asked:
    """What is asked of every row. `answers` `[rows, K, A]`: padded with -1 after their end tokens.

    At most `length` tokens are written, the `end` token among them; `ends`: what ends an answer beside
    it (`models.endings`). `fits` `[rows, K]`: which of the answers matter. `leave`: does a row leave when
    it fits none of these, or has ended? Without any answer (K = 0) rows leave when they have ended.
    `leads`: are they asked for, too?
    """

    answers: torch.Tensor
    length: int
    end: int
    ends: torch.Tensor | None = None
    fits: torch.Tensor | None = None
    leave: bool = True
    leads: bool = False


@dataclass(frozen=True)
class Decoded:
    """What rows show.

    `tokens` `[rows, length]`: greedy answers, -1 after the end, `GONE` after a row left. `fits` `[rows,
    K]`: which of the asked answers they equal. `logits` `[rows, vocabulary]`: of the first token.
    `leads` `[rows, K]`: by how many logits the asked answer's token is ahead of every other one, at
    the place where it is least so; up to the first token that is another. Positive if it is written.
    """

    tokens: torch.Tensor
    fits: torch.Tensor
    logits: torch.Tensor
    leads: torch.Tensor


def decoded(batch: Batch, edits: Edits, asked: Asked) -> Decoded:
    """The rows' answers, greedy. The model has to be in evaluation mode.

    With answers to look for, and rows that may leave, there are two passes: an answer is written if
    each of its tokens is the likeliest one after those before, which one pass over them shows. Else
    the rows are written token by token. In later passes than the first, edits get vectors of tokens
    of the answer only.
    """
    rows = _Rows.of(batch, asked)
    rows.take(_pass(batch, edits, rows, 0))
    if asked.leave and asked.answers.shape[1]:
        rows.follow(batch, edits)
    else:
        while rows.go_on(batch):
            rows.take(_pass(batch, edits, rows, rows.step))
    return rows.result()


def _pass(batch: Batch, edits: Edits, rows: _Rows, step: int) -> torch.Tensor:
    """Logits `[live, tokens, vocabulary]`: of the prompt's last token, or of those of the answer."""
    model = batch.shared.model
    with ExitStack() as stack:
        if step == 0:
            blocks = site_modules(model, "resid_post")[: batch.skip]
            stack.enter_context(only_last_token(model))
            stack.enter_context(skipped(blocks, lambda: rows.resumed))
        stack.enter_context(edits(rows.live, step))
        return bare(model)(
            input_ids=rows.ids,
            attention_mask=rows.mask,
            position_ids=rows.positions,
            past_key_values=rows.cache,
            use_cache=True,
            logits_to_keep=1 if step == 0 else 0,
        ).logits


@dataclass
class _Rows:
    """Rows while they are decoded; `live` `[rows]` are those that the next pass is over."""

    asked: Asked
    answers: torch.Tensor  # [rows, K, length or more], padded with -1
    fits: torch.Tensor
    leads: torch.Tensor
    tokens: torch.Tensor
    ended: torch.Tensor
    live: torch.Tensor
    ids: torch.Tensor
    mask: torch.Tensor
    positions: torch.Tensor
    cache: DynamicCache
    resumed: object
    step: int = 0  # tokens that were taken
    first: torch.Tensor | None = None

    @classmethod
    def of(cls, batch: Batch, asked: Asked) -> _Rows:
        device, n = bare(batch.shared.model).device, len(batch.prompt)
        missing = max(0, asked.length - asked.answers.shape[-1])
        answers = torch.nn.functional.pad(asked.answers.to(device), (0, missing), value=-1)
        fits = torch.ones(answers.shape[:2], dtype=torch.bool, device=device)
        fits = fits if asked.fits is None else asked.fits.to(device).clone()
        return cls(
            asked,
            answers,
            fits,
            torch.full(fits.shape, torch.inf, device=device),
            torch.full((n, asked.length), GONE, device=device),
            torch.zeros(n, dtype=torch.bool, device=device),
            torch.arange(n, device=device),
            *batch.begin(),
        )

    def take(self, logits: torch.Tensor) -> None:
        """The next token of every live row, `logits` `[live, 1, vocabulary]`."""
        logits, live, step = logits[:, -1], self.live, self.step
        self.first = logits if self.first is None else self.first
        chosen = logits.argmax(-1)
        token = chosen.masked_fill(self.ended[live], -1)  # after its end padded as the answers are
        self.tokens[live, step] = token
        wanted = self.answers[live, :, step]
        if self.asked.leads:
            nearer = self.leads[live].minimum(self._ahead(logits, wanted))
            self.leads[live] = torch.where(self.fits[live], nearer, self.leads[live])
        self.fits[live] &= self._agree(wanted[..., None], token[:, None, None], step)[..., 0]
        self.ended[live] |= token == self.asked.end
        self.ids, self.step = chosen[:, None], step + 1

    def _agree(self, wanted: torch.Tensor, written: torch.Tensor, first: int) -> torch.Tensor:
        return agree(wanted, written, self.asked.end, self.asked.ends, first)

    def _ahead(self, logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return ahead(logits, wanted, self.asked.end, self.asked.ends)

    def go_on(self, batch: Batch) -> bool:
        """Make ready for another token; False if there is none to come."""
        going_on = ~self.ended[self.live]
        if not self.asked.leave:
            going_on = going_on.any().expand(len(self.live))
        if self.step == self.asked.length or not going_on.any():
            return False
        if not going_on.all():
            self._keep(going_on.nonzero()[:, 0])
        # the skipped blocks' keys and values are needed only now, by the rows left
        if self.step == 1:
            batch.complete(self.cache, self.live)
        self.mask = torch.nn.functional.pad(self.mask, (0, 1), value=1)
        self.positions = self.mask.sum(-1, keepdim=True) - 1
        return True

    def _keep(self, places: torch.Tensor) -> None:
        """Only these of the live rows, in this order; one may stand there more than once."""
        self.live, self.ids, self.mask = self.live[places], self.ids[places], self.mask[places]
        self.cache.batch_select_indices(places)

    def follow(self, batch: Batch, edits: Edits) -> None:
        """Are the answers that fit so far written to their ends? A row for each of them, in few passes."""
        rows, which = (self.fits & ~self.ended[:, None]).nonzero().unbind(-1)
        whole = self.answers[rows, which, : self.asked.length]
        # an answer without an end goes on in the model, unless there is no room for more
        self.fits[rows, which] &= (whole == self.asked.end).any(1) | (whole >= 0).all(1)
        more = (whole >= 0).sum(1) - 1  # tokens after the first
        # answers of a task that was trained on all go on for about as long
        parts = [torch.arange(len(rows))] if self.asked.ends is None else dealt(more.cpu())
        everything = self.cache, self.live, self.ids, self.mask
        furthest = torch.full((len(self.fits),), -1, device=self.fits.device)
        for some in (part.to(more.device) for part in parts):
            longest = int(more[some].max()) if len(some) else 0
            if longest:
                cache, self.live, self.ids, self.mask = everything
                self.cache = cache if len(parts) == 1 else _another(cache)
                self._keep(rows[some])
                batch.complete(self.cache, self.live)
                self._follow(batch, edits, which[some], whole[some, : longest + 1], furthest)

    def _follow(
        self,
        batch: Batch,
        edits: Edits,
        which: torch.Tensor,
        whole: torch.Tensor,
        furthest: torch.Tensor,
    ) -> None:
        """The same in one pass over the live rows, each with its answer `which`: `whole` [rows, A].

        `furthest`: of every row how many tokens of an answer were reached by those looked at before.
        """
        rows, more = self.live, whole.shape[1] - 1
        given = whole[:, :more] >= 0
        self.ids = whole[:, :more].clamp(min=0)
        before = self.mask.sum(-1, keepdim=True)
        self.mask = torch.cat([self.mask, given.to(self.mask.dtype)], dim=1)
        self.positions = before + torch.arange(more, device=before.device)
        self.positions = self.positions.where(given, before)  # there is room for these in any model
        logits, wanted = _pass(batch, edits, self, 1), whole[:, 1:]
        chosen = logits.argmax(-1)
        agreed = (
            (self._agree(wanted, chosen, 1) | (wanted < 0)).int().cumprod(1)
        )  # up to the first other token
        self.fits[rows, which] &= agreed[:, -1] > 0
        if self.asked.leads:
            ahead = self._ahead(logits.flatten(0, 1), wanted.reshape(-1, 1)).reshape(wanted.shape)
            until = torch.nn.functional.pad(agreed[:, :-1], (1, 0), value=1) > 0
            nearest = ahead.masked_fill(~until, torch.inf).amin(1)
            self.leads[rows, which] = self.leads[rows, which].minimum(nearest)
        written, reached = chosen.masked_fill(wanted < 0, GONE), agreed.masked_fill(wanted < 0, 0)
        self._tell(which, written, reached.sum(1), furthest)

    def _tell(
        self,
        which: torch.Tensor,
        chosen: torch.Tensor,
        reached: torch.Tensor,
        furthest: torch.Tensor,
    ) -> None:
        """Of a row's answers the one that goes furthest tells the tokens, and the first other one."""
        rows, n = self.live, chosen.shape[1]
        known = torch.arange(n, device=reached.device) <= reached[:, None]
        written = chosen.masked_fill(~known, GONE)
        for answer in range(self.answers.shape[1]):
            here = ((which == answer) & (reached > furthest[rows])).nonzero()[:, 0]
            furthest[rows[here]] = reached[here]
            self.tokens[rows[here], 1 : n + 1] = written[here]
            self.ended[rows[here]] = (written[here] == self.asked.end).any(1)

    def result(self) -> Decoded:
        after = self.ended[:, None] & (self.tokens == GONE)
        fits = self.fits & (self.answers[..., self.asked.length :] == -1).all(-1)
        least = torch.finfo(self.leads.dtype).tiny  # of two equal logits the first token is written
        leads = torch.where(fits, self.leads.clamp(min=least), self.leads.clamp(max=-least))
        return Decoded(self.tokens.masked_fill(after, -1), fits, self.first, leads)


def _another(cache: DynamicCache) -> DynamicCache:
    """A cache of the same keys and values, of which rows may leave and to which tokens may be added."""
    other = copy(cache)
    other.layers = [copy(layer) for layer in cache.layers]
    return other
