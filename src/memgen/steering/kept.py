"""Unsteered passes that are kept: prompt by prompt, or whole tables of prompts as they stand.

Prompt by prompt (`Kept`) where all tokens but the last stay as they are.

With `positions="decision"` the pass over a prompt is the same for all shifts, and in a large model it is
nearly all that a sweep costs. A lab asks the same prompts again and again, mostly some of them: each
stage of a race, each dose and each draw of a control. So what is kept is found by a prompt's own tokens,
whatever prompts it was run with and however wide their padding was.

Which prompts share a pass changes the last bits of what it computes. Tasks that a model was trained on
keep no prompts. A lab that asks the same tables under many shifts keeps them whole (`Tables`): what is found
there was computed by the very pass that it stands for.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn

from memgen.models.hooks import vector_of
from memgen.models.sites import bare
from memgen.steering.prompts import Prompts
from memgen.steering.unsteered import Unsteered, caches

BYTES = 2**30  # of keys and values, at most, beside what a sweep is using


@dataclass(frozen=True)
class Prefix:
    """What the blocks hold of one prompt: `keys`, `values` by block, each `[heads, tokens, d_head]`."""

    keys: list[torch.Tensor]
    values: list[torch.Tensor]

    @cached_property
    def size(self) -> int:
        """Bytes."""
        return sum(part.nelement() * part.element_size() for part in [*self.keys, *self.values])

    def first(self, tokens: int) -> Prefix:
        """The same of the first tokens only (a view)."""
        return Prefix(*([part[:, :tokens] for part in side] for side in (self.keys, self.values)))


@dataclass(frozen=True)
class Picked(Unsteered):
    """An unsteered pass put together from what is kept: `found[p]` is all but the last token of prompt p.

    No block can be skipped with it: `outputs`, `keys` and `values` are empty.
    """

    found: list[Prefix]

    def before(
        self, prompt: torch.Tensor, known: int
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        which, place = prompt.unique(return_inverse=True)
        chosen = [self.found[one] for one in which.tolist()]
        for layer in range(len(chosen[0].keys)):
            sides = [one.keys[layer] for one in chosen], [one.values[layer] for one in chosen]
            keys, values = (_padded(side, known)[place] for side in sides)
            yield keys, values


def _padded(parts: list[torch.Tensor], width: int) -> torch.Tensor:
    """`[heads, tokens, d_head]` each, with zeros on the left: `[n, heads, width, d_head]`."""
    heads, _, size = parts[0].shape
    found = parts[0].new_zeros(len(parts), heads, width, size)
    for row, part in zip(found, parts):
        row[:, width - part.shape[1] :] = part
    return found


class Kept:
    """The passes that were used last, of one model.

    `most`: bytes. What a sweep asks for it holds until it ends, even if that is more.
    """

    def __init__(self, most: int = BYTES):
        self.most = most
        self._held: OrderedDict[bytes, Prefix] = OrderedDict()  # by all tokens of a prompt
        self._longer: dict[bytes, bytes] = {}  # all tokens but the last -> all of them
        self._per_token = 0  # bytes, known after the first pass

    def pick(self, model: nn.Module, prompts: Prompts) -> Picked:
        """The pass over these prompts; those that are not kept are run, each once."""
        lines = [
            row[seen.bool()]
            for row, seen in zip(prompts.input_ids.cpu(), prompts.attention_mask.cpu())
        ]
        asked = [(_name(line[:-1]), len(line) - 1) for line in lines]
        found = {name: self._find(name, tokens) for name, tokens in asked}
        new = {name: row for row, (name, _) in enumerate(asked) if found[name] is None}
        if new:
            self._forget(self.most - self._per_token * sum(len(lines[row]) for row in new.values()))
            rows = list(new.values())
            for some, prefix in self._run(model, prompts, [lines[row] for row in rows], rows):
                name, tokens = asked[rows[some]]
                found[name] = prefix.first(tokens)
            self._forget(self.most)
        whole: list[Prefix] = [prefix for name, _ in asked if (prefix := found[name]) is not None]
        return Picked(model, prompts, [], [], [], whole)

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        return sum(prefix.size for prefix in self._held.values())

    def _find(self, name: bytes, tokens: int) -> Prefix | None:
        """What is kept of a beginning of so many tokens."""
        whole = name if name in self._held else self._longer.get(name)
        if whole is None:
            return None
        self._held.move_to_end(whole)
        return self._held[whole].first(tokens)

    def _run(
        self, model: nn.Module, prompts: Prompts, lines: list[torch.Tensor], rows: list[int]
    ) -> Iterator[tuple[int, Prefix]]:
        """Run prompts and keep them: `(place among the rows, Prefix)`, of all their tokens."""
        for some, cache in caches(bare(model), prompts[torch.tensor(rows)]):
            for at, place in enumerate(some.tolist()):
                n = len(lines[place])
                sides = (
                    [getattr(layer, side)[at, :, -n:].clone() for layer in cache.layers]
                    for side in ("keys", "values")
                )
                prefix, name = Prefix(*sides), _name(lines[place])
                self._per_token = prefix.size // n
                self._held[name] = prefix
                self._longer[_name(lines[place][:-1])] = name
                yield place, prefix
            del cache  # before the next pass, not after it

    def _forget(self, most: int) -> None:
        size = self.size
        while self._held and size > max(0, most):
            _, prefix = self._held.popitem(last=False)
            size -= prefix.size
        self._longer = {short: one for short, one in self._longer.items() if one in self._held}


class Tables:
    """Unsteered passes over whole tables, of one model with its own weights; the last used are kept.

    `most`: bytes, all together. What is larger by itself is not kept.
    """

    def __init__(self, most: int = BYTES):
        self.most = most
        self._held: OrderedDict[tuple, Unsteered] = OrderedDict()

    def pick(self, prompts: Prompts, how: tuple, run: Callable[[], Unsteered]) -> Unsteered:
        """What `run()` gives for these prompts, run once. `how`: what else it depends on."""
        # a pass in inference mode is none that gradients may go through
        inference = torch.is_inference_mode_enabled()
        names = _name(prompts.input_ids.cpu()), _name(prompts.attention_mask.cpu())
        name = (*names, tuple(prompts.input_ids.shape), inference, *how)
        found = self._held.pop(name) if name in self._held else run()
        self._held[name] = found  # the last one now
        while self.size > self.most:
            self._held.popitem(last=False)
        return found

    @property
    def size(self) -> int:
        """Bytes that are kept."""
        return sum(_bytes(one) for one in self._held.values())


def _bytes(one: Unsteered) -> int:
    parts = [*map(vector_of, one.outputs), *one.keys, *one.values]
    return sum(part.nelement() * part.element_size() for part in parts)


def _name(ids: torch.Tensor) -> bytes:
    return ids.numpy().tobytes()
