"""The steering sweep: every cell (one shift of the hidden states) on every prompt, in few passes.

Plain hooks + `generate` run one cell after another. Here a *row* is a cell and a prompt, rows of
many cells share a batch with one shift per row, and work that cannot change the outcome is left
out:

* what lies before the first edit is computed once per prompt and shared by all cells: with
  `positions="all"` the prompt's pass through the blocks below the edit, with `"decision"` the
  prompt's tokens before the last one;
* a row leaves the batch as soon as its answer is complete or fits neither of its two candidates;
* in a `race`, cells that cannot become the best leave on a subset of the prompts.

The answers are those of plain hooks + `generate` (`do_sample=False`): greedy, deterministic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import torch
from torch import nn
from transformers import DynamicCache

from memgen.models.checkpoint import check_room
from memgen.models.hooks import (
    check_delta,
    evaluating,
    hooked,
    position_ids,
    shift,
    vector_of,
    with_vector,
)
from memgen.models.sites import bare, site_modules
from memgen.phases import phase
from memgen.steering.prompts import Prompts
from memgen.terms import MEMORY_CODE, OTHER_CODE, POSITIONS, RULE_CODE


@dataclass
class _Shared:
    """The unsteered pass over prompts, by block: outputs, keys and values `[P, heads, T, d_head]`."""

    outputs: list
    keys: list[torch.Tensor]
    values: list[torch.Tensor]


@contextmanager
def _skipped(blocks: Iterable[nn.Module], output: Callable[[], object]) -> Iterator[None]:
    """Inside, `blocks` do not compute: each returns `output()`. Hooks on them still run."""
    with ExitStack() as stack:
        for block in blocks:
            block.forward = lambda *args, **kwargs: output()
            stack.callback(delattr, block, "forward")
        yield


def _unsteered(model: nn.Module, prompts: Prompts, depth: int) -> _Shared:
    """Run prompts through the first `depth` blocks, without any shift."""
    core, blocks = bare(model), site_modules(model, "resid_post")
    outputs, cache = [], DynamicCache()
    if depth:
        keep = [lambda module, args, output: outputs.append(output)] * depth
        with hooked(blocks[:depth], keep), _skipped(blocks[depth:], lambda: outputs[-1]):
            core.base_model(
                input_ids=prompts.input_ids,
                attention_mask=prompts.attention_mask,
                position_ids=position_ids(prompts.attention_mask),
                past_key_values=cache,
                use_cache=True,
            )
    return _Shared(
        outputs, [layer.keys for layer in cache.layers], [layer.values for layer in cache.layers]
    )


@dataclass(frozen=True)
class Decoding:
    """How the rows of a sweep are shifted and decoded; None: what the model or the candidates say."""

    site: str = "resid_post"
    positions: str = "all"
    max_new_tokens: int | None = None  # by default as many as the longest candidate has
    eos_token_id: int | None = None  # by default the model's
    rows_per_batch: int = 512
    early_end: bool = True  # False: every row goes on until all have ended, as in `generate`


@dataclass(frozen=True)
class Sweep:
    """Cells and prompts where the model is, checked, with everything that their rows share."""

    model: nn.Module
    prompts: Prompts
    deltas: torch.Tensor  # [C, n_layer, d_model]
    decoding: Decoding
    looked_for: tuple[bool, bool]  # which candidates matter: a row ends when it fits none of these

    @classmethod
    def of(
        cls,
        model: nn.Module,
        prompts: Prompts,
        deltas: torch.Tensor,
        decoding: Decoding,
        looked_for: tuple[bool, bool] = (True, True),
    ) -> Sweep:
        """Candidates at least as long as an answer, the defaults filled in; errors as in `run_cells`."""
        core, longest = bare(model), prompts.candidates.shape[-1]
        n_layer = len(site_modules(model, decoding.site))
        if decoding.positions not in POSITIONS:
            raise ValueError(
                f"positions {decoding.positions!r} is unknown; choose one of {', '.join(POSITIONS)}"
            )
        if deltas.ndim != 3 or not len(deltas):
            raise ValueError(f"deltas {list(deltas.shape)} is not [cells, n_layer, d_model]")
        check_delta(deltas, n_layer, core.config.hidden_size)
        end, new = decoding.eos_token_id, decoding.max_new_tokens
        decoding = replace(
            decoding,
            eos_token_id=core.config.eos_token_id if end is None else end,
            max_new_tokens=longest if new is None else new,
        )
        if not isinstance(decoding.eos_token_id, int):  # some configurations list several
            raise ValueError(
                f"eos_token_id: the model's configuration has {decoding.eos_token_id}, and an answer"
                " ends with one; give the tokenizer's"
            )
        for name in ("rows_per_batch", "max_new_tokens"):
            if (value := getattr(decoding, name)) < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")
        check_room(model, prompts.attention_mask, decoding.max_new_tokens)
        missing = max(0, decoding.max_new_tokens - longest)
        candidates = torch.nn.functional.pad(prompts.candidates, (0, missing), value=-1)
        tensors = (prompts.input_ids, prompts.attention_mask, candidates)
        prompts = Prompts(*(tensor.to(core.device) for tensor in tensors))
        deltas = deltas.to(device=core.device, dtype=core.dtype)
        return cls(model, prompts, deltas, decoding, looked_for)


def _beginning(sweep: Sweep, shared: _Shared, prompt: torch.Tensor, skip: int):
    """How rows start: token ids, positions, key-value cache, and what the skipped blocks give."""
    ids, positions = (
        sweep.prompts.input_ids[prompt],
        position_ids(sweep.prompts.attention_mask[prompt]),
    )
    cache = DynamicCache()
    if sweep.decoding.positions == "decision":
        for layer, (keys, values) in enumerate(zip(shared.keys, shared.values)):
            cache.update(keys[prompt, :, :-1], values[prompt, :, :-1], layer)
        ids, positions = ids[:, -1:], positions[:, -1:]
    if not skip:
        return ids, positions, cache, None
    below = shared.outputs[skip - 1]
    return ids, positions, cache, with_vector(below, vector_of(below)[prompt])


def _answer_rows(
    sweep: Sweep, shared: _Shared, skip: int, cell: torch.Tensor, prompt: torch.Tensor
) -> torch.Tensor:
    """Which candidates the greedy answers equal, `[rows, 2]`; row r: `prompt[r]` under `cell[r]`.

    The first `skip` blocks of the prompt's pass come from `shared`; with `"decision"` it is instead
    every block's pass over all prompt tokens but the last.
    """
    model, decoding, candidates = sweep.model, sweep.decoding, sweep.prompts.candidates
    core, blocks = bare(model), site_modules(model, "resid_post")
    fits = torch.tensor(sweep.looked_for, device=core.device).repeat(len(cell), 1)
    ended = torch.zeros(len(cell), dtype=torch.bool, device=core.device)
    live = torch.arange(len(cell), device=core.device)  # the rows still in the batch
    mask = sweep.prompts.attention_mask[prompt]
    ids, positions, cache, resumed = _beginning(sweep, shared, prompt, skip)

    for step in range(decoding.max_new_tokens):
        with (
            shift(model, decoding.site, sweep.deltas[cell[live]]),
            _skipped(blocks[:skip] if step == 0 else (), lambda: resumed),
        ):
            logits = core(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits
        chosen = logits[:, -1].argmax(-1)
        token = chosen.masked_fill(ended[live], -1)  # after its end padded as the candidates are
        fits[live] &= candidates[prompt[live], :, step] == token[:, None]
        ended[live] |= token == decoding.eos_token_id
        if decoding.early_end:
            going_on = ~ended[live] & fits[live].any(-1)
        else:
            going_on = ~ended.all().expand(len(live))
        if step + 1 == decoding.max_new_tokens or not going_on.any():
            break
        if not going_on.all():
            live, chosen, mask = live[going_on], chosen[going_on], mask[going_on]
            cache.batch_select_indices(going_on.nonzero()[:, 0])
        if step == 0:  # the skipped blocks' keys and values are needed only now, by the rows left
            rows = prompt[live]
            for layer in range(skip):
                cache.update(shared.keys[layer][rows], shared.values[layer][rows], layer)
        ids, mask = chosen[:, None], torch.nn.functional.pad(mask, (0, 1), value=1)
        positions = mask.sum(-1, keepdim=True) - 1
    return fits & (candidates[prompt, :, decoding.max_new_tokens :] == -1).all(-1)


def matched_candidates(sweep: Sweep) -> torch.Tensor:
    """Which candidates the answers equal, `[C, P, 2]`, for all cells on all prompts."""
    deltas, decoding = sweep.deltas, sweep.decoding
    n_layer, size = deltas.shape[1], decoding.rows_per_batch
    touched = deltas.any(-1)  # [C, n_layer]
    lowest = torch.where(touched.any(-1), touched.int().argmax(-1), n_layer)
    if decoding.positions == "decision":
        skips, depth = torch.zeros_like(lowest), n_layer
    else:
        # resid_post is edited after its block, so that block is still the same for all cells
        skips = (lowest + (decoding.site == "resid_post")).clamp(max=n_layer)
        depth = int(skips.max())
    matches = torch.zeros(
        len(deltas), len(sweep.prompts), 2, dtype=torch.bool, device=deltas.device
    )
    everyone = torch.arange(len(sweep.prompts), device=deltas.device)
    with evaluating(sweep.model):
        for chunk in everyone.split(size):
            part = replace(sweep, prompts=sweep.prompts[chunk])
            shared = _unsteered(sweep.model, part.prompts, depth)
            for skip in skips.unique().tolist():
                cells = (skips == skip).nonzero()[:, 0]
                rows = torch.cartesian_prod(cells, everyone[: len(chunk)])
                for cell, prompt in (batch.unbind(-1) for batch in rows.split(size)):
                    found = _answer_rows(part, shared, skip, cell, prompt)
                    matches[cell, chunk[prompt]] = found
    return matches


@phase("sweep")
@torch.inference_mode()
def run_cells(
    model: nn.Module, prompts: Prompts, deltas: torch.Tensor, decoding: Decoding = Decoding()
) -> torch.Tensor:
    """Behaviour of every cell on every prompt, int8 `[C, P]`: 0 memory, 1 rule, 2 other.

    `deltas`: `[C, n_layer, d_model]`, one shift per cell; site and positions as in `hooks.shift`.
    An answer is greedy and ends with the end token or after `max_new_tokens`. It counts as a
    behaviour if it equals that candidate, end token included (0, should both candidates be the
    same). `early_end=False` gives the same codes for more work. Errors: `ValueError` for an unknown
    site, `positions` or architecture, deltas not finite or of another shape, and sizes below 1.
    """
    memory, rule = matched_candidates(Sweep.of(model, prompts, deltas, decoding)).cpu().unbind(-1)
    codes = torch.full(memory.shape, OTHER_CODE, dtype=torch.int8)
    codes[rule] = RULE_CODE
    codes[memory] = MEMORY_CODE
    return codes
