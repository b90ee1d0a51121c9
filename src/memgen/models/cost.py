"""What passes of a model cost, computed from its shape: floating-point operations and memory.

A multiplication and an addition are two operations. Counted are the matrix products; embeddings,
norms and activation functions are not (a few per cent at the widths of the study, less above).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Shape:
    """Measures of a decoder. `key_width`: of the keys of all heads; `gated`: three maps in the MLP."""

    layers: int
    width: int
    inner: int
    vocabulary: int
    key_width: int
    gated: bool = False
    tied: bool = True

    @classmethod
    def of(cls, config: Any) -> Shape:
        """The shape of a GPT-2 of transformers."""
        width = config.n_embd
        return cls(config.n_layer, width, config.n_inner or 4 * width, config.vocab_size, width)

    @property
    def block(self) -> int:
        """Weights of one block's matrices."""
        attention = 2 * self.width * (self.width + self.key_width)
        return attention + (3 if self.gated else 2) * self.width * self.inner

    @property
    def parameters(self) -> int:
        """Weights of all matrices, word embeddings included, positions and biases not."""
        tables = (1 if self.tied else 2) * self.vocabulary * self.width
        return self.layers * self.block + tables


#: LLaMA-3.2's and LLaMA-3.1's published configurations
SHAPES = {
    "1B": Shape(16, 2048, 8192, 128256, 512, gated=True),
    "8B": Shape(32, 4096, 14336, 128256, 1024, gated=True, tied=False),
}


def pass_operations(shape: Shape, tokens: int, scored: int, before: int = 0) -> int:
    """Operations of one row's pass over `tokens` tokens, of which `scored` are read out as scores.

    `before`: tokens whose keys and values are kept from earlier passes. Attention is counted as it
    is computed, every token with every other.
    """
    blocks = 2 * shape.block * tokens + 4 * shape.width * tokens * (before + tokens)
    return shape.layers * blocks + 2 * shape.width * shape.vocabulary * scored


def answer_operations(shape: Shape, tokens: int, new: int) -> int:
    """Operations of one row's greedy answer of `new` tokens: the prompt's pass, then one a token."""
    steps = (pass_operations(shape, 1, 1, tokens + done) for done in range(new - 1))
    return pass_operations(shape, tokens, 1) + sum(steps)


def answer_memory(shape: Shape, rows: int, tokens: int, size: int = 2) -> int:
    """Bytes of weights, and of the keys and values of `rows` rows of `tokens` tokens in all.

    `size`: bytes of a number (2: bfloat16).
    """
    return size * (shape.parameters + 2 * shape.layers * shape.key_width * rows * tokens)
