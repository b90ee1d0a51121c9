"""Keys and values with room behind them: what a pass adds is written there.

transformers' own cache copies all that it holds whenever a token is added. With prompts of many tokens
and passes of one, these copies are most of what a pass takes.
"""

from __future__ import annotations

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


class GrowingLayer(DynamicLayer):
    """A layer's keys and values, the first tokens of buffers `[rows, heads, room, d_head]`.

    Nothing of it goes through a gradient: buffers are written in place. When the room is full it goes on
    as transformers' layer does.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, known: int):
        super().__init__()
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True
        self._show(keys, values, known)

    def _show(self, keys: torch.Tensor, values: torch.Tensor, known: int) -> None:
        self._buffers = keys, values
        self.keys, self.values = keys[:, :, :known], values[:, :, :known]

    @property
    def _room(self) -> int:
        return self._buffers[0].shape[2]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        before = self.get_seq_length()
        after = before + key_states.shape[2]
        if after > self._room:
            return super().update(key_states, value_states, *args, **kwargs)
        for buffer, new in zip(self._buffers, (key_states, value_states)):
            buffer[:, :, before:after] = new
        self._show(*self._buffers, after)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        known = self.get_seq_length()
        if known > self._room:
            super().batch_select_indices(indices)
        else:
            self._show(*(buffer[indices] for buffer in self._buffers), known)


def growing(held: torch.Tensor, known: int) -> DynamicCache:
    """A cache of the first `known` tokens of keys and values `[rows, 2, layers, heads, room, d_head]`."""
    cache = DynamicCache()
    keys, values = held.unbind(1)
    cache.layers = [GrowingLayer(*both, known) for both in zip(keys.unbind(1), values.unbind(1))]
    return cache
