"""Logits at chosen positions of a batch, and no more work than these depend on.

Training reads logits where a loss is, and a look at the behaviour where an answer is: four of eleven
tokens of a sum. What stands behind the last of them in a row cannot reach it (attention looks back
only), so neither padding nor the end mark is computed, and above the last attention only the chosen
positions go on. What comes out at a token depends on those before it alone, so rows that begin alike
share their beginnings, and the first block asks only which token stands where. The model's own
modules are used, adapters included; attention alone is written out here. The logits are those of
transformers' forward pass up to rounding, which is called for whatever is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import nn
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from memgen.models.hooks import record
from memgen.models.sites import bare, capped

#: takes what a block gives
Keep = Callable[[torch.Tensor], None]
MOST_GROUPS = (
    8  # lengths that are kept apart; more would make many small calls out of a few large ones
)


@dataclass(frozen=True)
class _Layout:
    """What is computed for a batch, and where.

    *Places* are the tokens of the batch that are needed, rows of one length side by side; *nodes* are
    the different beginnings of rows; *points* are the different pairs of a token and its position. Where
    beginnings are not shared, every place is a node and a point of its own.
    """

    ids: torch.Tensor  # [points]
    columns: torch.Tensor  # [points], their positions
    point: torch.Tensor | None  # [places], the point at each place; None: its own
    node: torch.Tensor | None  # [places], the node at each place; None: its own
    first: torch.Tensor | None  # [nodes], a place of each node; None: its own
    chosen: torch.Tensor  # [M], the places that are wanted, in the order of the batch
    groups: list[tuple[int, int]]  # (rows, length), as they lie

    @classmethod
    def of(cls, ids: torch.Tensor, wanted: torch.Tensor, share: bool) -> _Layout:
        """`ids`, `wanted`: `[rows, positions]` (CPU), at least one of them wanted.

        `share`: compute beginnings once that several rows have.
        """
        width = wanted.shape[1]
        column = torch.arange(1, width + 1)
        needed = (wanted * column).amax(1)  # a row's tokens, up to the last that is wanted
        shortest, longest = (int(v) for v in (needed[needed > 0].min(), needed.max()))
        step = -(-(longest - shortest + 1) // MOST_GROUPS)
        # rounded up to few lengths: what a row computes beyond its own can reach nothing that is read
        needed = torch.where(needed > 0, longest - (longest - needed) // step * step, 0)
        tokens, groups = [], []
        for length in needed[needed > 0].unique().tolist():
            rows = (needed == length).nonzero()[:, 0]
            tokens.append((rows[:, None] * width + column[:length] - 1).flatten())
            groups.append((len(rows), length))
        places = torch.cat(tokens)
        place = torch.empty(wanted.numel(), dtype=torch.long)
        place[places] = torch.arange(len(places))
        chosen, own, columns = place[wanted.flatten()], ids.flatten()[places], places % width
        if not share:
            return cls(own, columns, None, None, None, chosen, groups)
        nodes, node = _beginnings(ids)[places].unique(return_inverse=True)
        first = torch.full((len(nodes),), len(places)).scatter_reduce(
            0, node, torch.arange(len(places)), "amin"
        )
        pairs, point = (own * width + columns).unique(return_inverse=True)
        return cls(pairs // width, pairs % width, point, node, first, chosen, groups)

    def to(self, device: torch.device) -> _Layout:
        moved = {
            name: value.to(device)
            for name, value in vars(self).items()
            if isinstance(value, torch.Tensor)
        }
        return replace(self, **moved)

    def blocks(self, blocks: Sequence[nn.Module]) -> Iterator[tuple]:
        """Each block with the index of its input at every place, the places that go on, and their inputs.

        None stands for all inputs as they are.
        """
        for number, block in enumerate(blocks):
            ends = number == len(blocks) - 1
            inputs = self.node if number else self.point
            going_on = self.chosen if ends else self.first
            same = going_on if inputs is None else None if number and not ends else inputs[going_on]
            yield block, inputs, going_on, same


def _beginnings(ids: torch.Tensor) -> torch.Tensor:
    """A number for each token of the batch, the same where rows `[rows, positions]` agree up to there."""
    found, count = torch.empty_like(ids), 0
    before = torch.zeros_like(ids[:, 0])
    for column in range(ids.shape[1]):
        different, before = (before * (int(ids.max()) + 1) + ids[:, column]).unique(
            return_inverse=True
        )
        found[:, column] = before + count
        count += len(different)
    return found.flatten()


def _taken(values: torch.Tensor, index: torch.Tensor | None) -> torch.Tensor:
    """Rows of `values`; None: all, as they are."""
    return values if index is None else F.embedding(index, values)


@dataclass
class Seen:
    """Hidden states of all blocks (`resid_post`) that a pass leaves here, at some of its wanted positions.

    `at`: bool `[rows, positions]`; `blocks`: by block `[number, width]`, row by row.
    """

    at: torch.Tensor
    blocks: list[torch.Tensor] = field(default_factory=list)

    @property
    def states(self) -> torch.Tensor:
        """Float32 `[number, n_layer, width]` on the CPU, as `hooks.capture` has them."""
        return torch.stack(self.blocks, dim=1).float().cpu()

    def keep(self, wanted: torch.Tensor, layout: _Layout, n_blocks: int) -> Keep:
        """Takes what every block gives: of its nodes, and the last one of the chosen positions alone."""
        chosen = self.at[wanted].to(layout.chosen.device)
        places = layout.chosen[chosen]
        inside = places if layout.node is None else layout.node[places]

        def keep(h: torch.Tensor) -> None:
            last = len(self.blocks) == n_blocks - 1
            self.blocks.append(h[chosen] if last else h[inside])

        return keep


def logits_at(
    model: nn.Module, ids: torch.Tensor, wanted: torch.Tensor, seen: Seen | None = None
) -> torch.Tensor:
    """Logits of the token after every wanted position, `[number wanted, vocabulary]`, row by row.

    `ids`: int64 `[rows, positions]`, padded on the right; `wanted`: bool, of the same shape, never true
    at padding. `seen` takes the states at some of them. The model's mode and autocast are the caller's.
    """
    core = bare(model)
    trunk = _TRUNKS.get(type(core).__name__)
    if trunk is None or not wanted.any() or not _plain(core, ids.shape[1]):
        with nullcontext() if seen is None else record(model, "resid_post") as every:
            states = core.base_model(
                input_ids=ids.to(core.device), use_cache=False
            ).last_hidden_state
            if seen is not None:
                seen.blocks += [of_block[seen.at.to(core.device)] for of_block in every]
        return capped(core, core.get_output_embeddings()(states[wanted.to(core.device)]))
    # the gradient of what is shared is a sum, for which bfloat16 is too coarse
    share = core.dtype == torch.float32 and not torch.is_autocast_enabled(core.device.type)
    layout = _Layout.of(ids.cpu(), wanted.cpu(), share).to(core.device)
    n_blocks = core.config.num_hidden_layers
    keep = _nothing if seen is None else seen.keep(wanted.cpu(), layout, n_blocks)
    return capped(core, core.get_output_embeddings()(trunk(core, layout, keep)))


def _plain(core: nn.Module, width: int) -> bool:
    """Is the forward pass over `width` positions no more than what is written out here?"""
    config = core.config
    window = getattr(config, "sliding_window", None)
    if window and width > window:  # some tokens do not see the first one
        return False
    if config._attn_implementation not in ("eager", "sdpa") or core.is_activation_checkpointing:
        return False
    rates = ("resid_pdrop", "embd_pdrop", "attn_pdrop", "attention_dropout")
    if core.training and any(getattr(config, name, 0) for name in rates):
        return False
    rare = ("add_cross_attention", "reorder_and_upcast_attn", "use_bidirectional_attention")
    return not any(getattr(config, name, False) for name in rare)


def _mixed(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, sdpa: bool
) -> torch.Tensor:
    """What attention reads, `[rows, heads, T, d_head]` of all three; each token looks back only."""
    if sdpa:
        return F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale)
    length = query.shape[2]
    ahead = torch.full((length, length), -torch.inf, device=query.device).triu(1)
    weights = (query @ key.transpose(2, 3)) * scale + ahead
    return weights.softmax(-1, dtype=torch.float32).to(value.dtype) @ value


def _attention(
    parts: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    layout: _Layout,
    scale: float,
    sdpa: bool,
) -> torch.Tensor:
    """Attention within every row: queries, keys and values `[places, heads, d_head]` to `[places, width]`."""
    sizes = [rows * length for rows, length in layout.groups]
    found = []
    for shape, *three in zip(layout.groups, *(part.split(sizes) for part in parts)):
        query, key, value = (one.view(*shape, *one.shape[1:]).transpose(1, 2) for one in three)
        found.append(
            _mixed(query, key, value, scale, sdpa).transpose(1, 2).reshape(sizes[len(found)], -1)
        )
    return torch.cat(found) if len(found) > 1 else found[0]


def _nothing(h: torch.Tensor) -> None:
    """States of a block that nobody asks for."""


def _gpt2(core: nn.Module, layout: _Layout, keep: Keep) -> torch.Tensor:
    """Final states `[M, width]` of the chosen positions."""
    trunk, sdpa = core.transformer, core.config._attn_implementation == "sdpa"
    h = trunk.wte(layout.ids) + trunk.wpe(layout.columns)
    for block, inputs, going_on, own in layout.blocks(trunk.h):
        attn = block.attn
        three = _taken(attn.c_attn(block.ln_1(h)), inputs)
        three = three.view(-1, 3, attn.num_heads, attn.head_dim)
        mixed = _attention(three.unbind(1), layout, attn.scaling, sdpa)
        h = attn.c_proj(_taken(mixed, going_on)) + _taken(h, own)
        h = h + block.mlp(block.ln_2(h))
        keep(h)
    return trunk.ln_f(h)


def _llama(core: nn.Module, layout: _Layout, keep: Keep) -> torch.Tensor:
    """Final states `[M, width]` of the chosen positions: of LLaMA, and of those whose blocks have its parts.

    What some of them have beside these: norms of queries and keys (Qwen 3, Gemma 3); norms behind
    attention and feed-forward part, and angles of rotation that depend on the block (Gemma 3).
    """
    trunk, sdpa = core.model, core.config._attn_implementation == "sdpa"
    four_norms = hasattr(trunk.layers[0], "pre_feedforward_layernorm")
    h, columns = trunk.embed_tokens(layout.ids), layout.columns
    for block, inputs, going_on, own in layout.blocks(trunk.layers):
        attn, x = block.self_attn, block.input_layernorm(h)
        of_block = {"layer_type": attn.layer_type} if four_norms else {}
        cos, sin = (one[0] for one in trunk.rotary_emb(h, position_ids=columns[None], **of_block))
        query, key, value = (
            to(x).view(len(x), -1, attn.head_dim) for to in (attn.q_proj, attn.k_proj, attn.v_proj)
        )
        if hasattr(attn, "q_norm"):
            query, key = attn.q_norm(query), attn.k_norm(key)
        query, key = apply_rotary_pos_emb(query, key, cos, sin)
        query, key, value = (
            _taken(one.flatten(1), inputs).view(-1, *one.shape[1:]) for one in (query, key, value)
        )
        if (shared := attn.num_key_value_groups) > 1:
            key, value = (one.repeat_interleave(shared, dim=1) for one in (key, value))
        mixed = _attention((query, key, value), layout, attn.scaling, sdpa)
        read = attn.o_proj(_taken(mixed, going_on))
        if four_norms:
            h = block.post_attention_layernorm(read) + _taken(h, own)
            h = h + block.post_feedforward_layernorm(block.mlp(block.pre_feedforward_layernorm(h)))
        else:
            h = read + _taken(h, own)
            h = h + block.mlp(block.post_attention_layernorm(h))
        keep(h)
        if layout.point is not None:
            columns = layout.columns[layout.point[layout.first]]
    return trunk.norm(h)


_TRUNKS: dict[str, Callable[[nn.Module, _Layout, Keep], torch.Tensor]] = {
    "GPT2LMHeadModel": _gpt2,
    "LlamaForCausalLM": _llama,
    "MistralForCausalLM": _llama,
    "Qwen2ForCausalLM": _llama,
    "Qwen3ForCausalLM": _llama,
    "GemmaForCausalLM": _llama,
    "Gemma3ForCausalLM": _llama,
}
