"""The pass over prompts without edits, which many rows share.

In a pass over a prompt the blocks below the first edit give what they give without edits, and so do all
blocks at the tokens before the first edited one. Both come from here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from transformers import DynamicCache

from memgen.models.hooks import hooked, position_ids, vector_of, with_vector
from memgen.models.room import in_order, passes
from memgen.models.sites import bare, site_modules
from memgen.steering.prompts import Prompts

ROWS = 512  # rows in one batch


@contextmanager
def skipped(blocks: Iterable[nn.Module], output: Callable[[], object]) -> Iterator[None]:
    """Inside, `blocks` do not compute: each returns `output()`. Hooks on them still run."""
    with ExitStack() as stack:
        for block in blocks:
            block.forward = lambda *args, **kwargs: output()
            stack.callback(delattr, block, "forward")
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
        cls,
        model: nn.Module,
        prompts: Prompts,
        depth: int | None = None,
        rows: int = ROWS,
        outputs: bool = True,
    ) -> Unsteered:
        """Run the prompts, `rows` at a time, through the first `depth` blocks (None: all).

        `outputs`: are the hidden states kept, too? Not where no block will be skipped.
        """
        core, blocks = bare(model), site_modules(model, "resid_post")
        prompts = prompts.to(core.device)
        depth = len(blocks) if depth is None else depth
        if not outputs:
            return cls(model, prompts, [], *_keys_and_values(core, prompts))
        parts = [
            _first_blocks(core, blocks, prompts[some], depth)
            for some in torch.arange(len(prompts), device=core.device).split(rows)
        ]
        found, keys, values = (
            [_joined(of_block) for of_block in zip(*of_part, strict=True)]
            for of_part in zip(*parts, strict=True)
        )
        return cls(model, prompts, found, keys, values)

    def before(
        self, prompt: torch.Tensor, known: int
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Keys and values of the first `known` columns, `[rows, heads, known, d_head]`, block by block."""
        for keys, values in zip(self.keys, self.values, strict=True):
            yield keys[prompt, :, :known], values[prompt, :, :known]


def caches(core: nn.Module, prompts: Prompts) -> Iterator[tuple[torch.Tensor, DynamicCache]]:
    """`(rows, their keys and values)` of the passes over these prompts: as many at once as fit.

    Rows of a pass are padded on the left to the longest of them, not to the longest of all.
    """
    for rows, column in passes(core, prompts.attention_mask, ROWS):
        mask, cache = prompts.attention_mask[rows, column:], DynamicCache()
        core.base_model(
            input_ids=prompts.input_ids[rows, column:],
            attention_mask=mask,
            position_ids=position_ids(mask),
            past_key_values=cache,
            use_cache=True,
        )
        yield rows, cache


def _keys_and_values(core, prompts: Prompts) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Keys and values of all blocks, a list each; nothing is kept of the blocks' outputs."""
    width, done = prompts.input_ids.shape[1], []
    found: list[tuple[list[torch.Tensor], list[torch.Tensor]]] = []
    for rows, cache in caches(core, prompts):
        done.append(rows)
        # to the width of all prompts: masked as padding is
        wide = (0, 0, width - cache.get_seq_length(), 0)
        found.append(
            (
                [torch.nn.functional.pad(layer.keys, wide) for layer in cache.layers],
                [torch.nn.functional.pad(layer.values, wide) for layer in cache.layers],
            )
        )
    keys, values = (
        [in_order(list(of), done) for of in zip(*(part[i] for part in found), strict=True)]
        for i in (0, 1)
    )
    return keys, values


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
