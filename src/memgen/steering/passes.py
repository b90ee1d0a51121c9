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

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from transformers import DynamicCache

from memgen.models.components import component_modules
from memgen.models.hooks import hooked, position_ids, vector_of, with_vector
from memgen.models.sites import bare, site_modules
from memgen.steering.prompts import Prompts

ROWS = 512  # rows in one batch
GONE = -2  # stands for the tokens of a row after it left, fitting no answer
#: the edits of the rows `[live]` that are still in the batch, in the pass of a step (0: the prompt)
Edits = Callable[[torch.Tensor, int], AbstractContextManager]


@contextmanager
def skipped(blocks: Iterable[nn.Module], output: Callable[[], object]) -> Iterator[None]:
    """Inside, `blocks` do not compute: each returns `output()`. Hooks on them still run."""
    with ExitStack() as stack:
        for block in blocks:
            block.forward = lambda *args, **kwargs: output()
            stack.callback(delattr, block, "forward")
        yield


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
class Unsteered:
    """What the first blocks compute over prompts without edits: an item per block.

    `outputs`: hidden states `[P, T, d]` as the block returns them; `keys`, `values`: `[P, heads, T,
    d_head]`. `prompts` are where the model is.
    """

    model: nn.Module
    prompts: Prompts
    outputs: list
    keys: list[torch.Tensor]
    values: list[torch.Tensor]

    @classmethod
    def of(
        cls, model: nn.Module, prompts: Prompts, depth: int | None = None, rows: int = ROWS
    ) -> Unsteered:
        """Run the prompts, `rows` at a time, through the first `depth` blocks (None: all)."""
        core, blocks = bare(model), site_modules(model, "resid_post")
        prompts = prompts.to(core.device)
        depth = len(blocks) if depth is None else depth
        parts = [
            _first_blocks(core, blocks, prompts[some], depth)
            for some in torch.arange(len(prompts), device=core.device).split(rows)
        ]
        outputs, keys, values = (
            [_joined(of_block) for of_block in zip(*of_part, strict=True)]
            for of_part in zip(*parts, strict=True)
        )
        return cls(model, prompts, outputs, keys, values)


def _first_blocks(core: nn.Module, blocks: list[nn.Module], prompts: Prompts, depth: int):
    """Outputs, keys and values of the first `depth` blocks, a list each."""
    outputs: list = []
    cache = DynamicCache()
    if depth:
        keep = [lambda module, args, output: outputs.append(output)] * depth
        with hooked(blocks[:depth], keep), skipped(blocks[depth:], lambda: outputs[-1]):
            core.base_model(
                input_ids=prompts.input_ids,
                attention_mask=prompts.attention_mask,
                position_ids=position_ids(prompts.attention_mask),
                past_key_values=cache,
                use_cache=True,
            )
    return outputs, [layer.keys for layer in cache.layers], [layer.values for layer in cache.layers]


def _joined(parts: tuple):
    """One after the other; as older versions of transformers have them, first in tuples."""
    if len(parts) == 1:
        return parts[0]
    return with_vector(parts[0], torch.cat([vector_of(part) for part in parts]))


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
            for layer, (keys, values) in enumerate(zip(self.shared.keys, self.shared.values)):
                cache.update(keys[prompt, :, :known], values[prompt, :, :known], layer)
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

    At most `length` tokens are written, the `end` token among them. `fits` `[rows, K]`: which of the
    answers matter. `leave`: does a row leave when it fits none of these, or has ended? Without any
    answer (K = 0) rows leave when they have ended. `leads`: are they asked for, too?
    """

    answers: torch.Tensor
    length: int
    end: int
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
    """The rows' answers, greedy. The model has to be in evaluation mode."""
    model, answers, length = batch.shared.model, asked.answers, asked.length
    core, blocks = bare(model), site_modules(model, "resid_post")
    n, missing = len(batch.prompt), max(0, length - answers.shape[-1])
    padded = torch.nn.functional.pad(answers, (0, missing), value=-1)
    fits = torch.ones(padded.shape[:2], dtype=torch.bool, device=core.device)
    fits = fits if asked.fits is None else asked.fits.to(core.device).clone()
    tokens = torch.full((n, length), GONE, device=core.device)
    ended = torch.zeros(n, dtype=torch.bool, device=core.device)
    live = torch.arange(n, device=core.device)  # the rows still in the batch
    ids, mask, positions, cache, resumed = batch.begin()
    first, leads = None, torch.full(fits.shape, torch.inf, device=core.device)
    for step in range(length):
        with ExitStack() as stack:
            if step == 0:
                stack.enter_context(only_last_token(model))
                stack.enter_context(skipped(blocks[: batch.skip], lambda: resumed))
            stack.enter_context(edits(live, step))
            logits = core(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
        first = logits if first is None else first
        chosen = logits.argmax(-1)
        token = chosen.masked_fill(ended[live], -1)  # after its end padded as the answers are
        tokens[live, step] = token
        if asked.leads:
            ahead = _ahead(logits, padded[live, :, step])
            leads[live] = torch.where(fits[live], leads[live].minimum(ahead), leads[live])
        fits[live] &= padded[live, :, step] == token[:, None]
        ended[live] |= token == asked.end
        if asked.leave:
            going_on = ~ended[live] & (fits[live].any(-1) if answers.shape[1] else True)
        else:
            going_on = ~ended.all().expand(len(live))
        if step + 1 == length or not going_on.any():
            break
        if not going_on.all():
            live, chosen, mask = live[going_on], chosen[going_on], mask[going_on]
            cache.batch_select_indices(going_on.nonzero()[:, 0])
        if step == 0:  # the skipped blocks' keys and values are needed only now, by the rows left
            batch.complete(cache, live)
        ids, mask = chosen[:, None], torch.nn.functional.pad(mask, (0, 1), value=1)
        positions = mask.sum(-1, keepdim=True) - 1
    after = ended[:, None] & (tokens == GONE)
    fits &= (padded[..., length:] == -1).all(-1)
    least = torch.finfo(leads.dtype).tiny  # of two equal logits the first token is written
    leads = torch.where(fits, leads.clamp(min=least), leads.clamp(max=-least))
    return Decoded(tokens.masked_fill(after, -1), fits, first, leads)


def _ahead(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Logit of each row's `wanted` tokens `[rows, K]` less the highest other one; inf for -1."""
    own = logits.gather(1, wanted.clamp(min=0))
    best, place = logits.topk(2)
    other = torch.where(wanted == place[:, :1], best[:, 1:], best[:, :1])
    return (own - other).float().masked_fill(wanted < 0, torch.inf)
