"""Unsteered passes that are kept from sweep to sweep, where all tokens but the last stay as they are.

With `positions="decision"` the pass over a prompt is the same for all shifts, and in a large model it is
nearly all that a sweep costs. A lab asks the same prompts again and again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch

from memgen.steering.passes import Unsteered
from memgen.steering.prompts import Prompts

BYTES = 3 * 2**29  # of keys and values, at most


class Kept:
    """The passes that were used last, of one model."""

    def __init__(self, most: int = BYTES):
        self.most = most
        self._found: OrderedDict[tuple[bytes, bytes], Unsteered] = OrderedDict()

    def get(self, prompts: Prompts, make: Callable[[], Unsteered]) -> Unsteered:
        """That of these prompts; `make` makes it where it is not kept."""
        key = _bytes(prompts.input_ids), _bytes(prompts.attention_mask)
        if key in self._found:
            self._found.move_to_end(key)
            return self._found[key]
        # room is made before, not after
        size = self._size(next(reversed(self._found.values()))) if self._found else 0
        self._forget(self.most - size)
        found = self._found[key] = make()
        self._forget(self.most)
        return found

    def _forget(self, most: int) -> None:
        while self._found and sum(map(self._size, self._found.values())) > max(0, most):
            self._found.popitem(last=False)

    @staticmethod
    def _size(one: Unsteered) -> int:
        return sum(part.nelement() * part.element_size() for part in [*one.keys, *one.values])


def _bytes(ids: torch.Tensor) -> bytes:
    return ids.cpu().numpy().tobytes()
