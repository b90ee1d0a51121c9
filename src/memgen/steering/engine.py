"""The steering sweep: every cell (one shift of the hidden states) on every prompt, in few forward
passes.

Plain hooks + `generate` run one cell after another. Here a *row* is a cell and a prompt, rows of
many cells share a batch with one shift per row, and work that cannot change the outcome is left
out:

* what lies before the first edit is computed once per prompt and shared by all cells: with
  `positions="all"` the prompt's pass through the blocks below the edit, with `"decision"` the
  prompt's tokens before the last one;
* a row leaves the batch as soon as its answer is complete or fits none of the two answers that are
  looked for;
* in a `race`, cells that cannot become the best leave on a subset of the prompts.

The answers are those of plain hooks + `generate` (`do_sample=False`). Everything is greedy and
deterministic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from transformers import DynamicCache

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
from memgen.steering.prompts import Prompts
from memgen.terms import MEMORY_CODE, OTHER_CODE, POSITIONS, RULE_CODE


@dataclass
class _Shared:
    """The unsteered pass over prompts, by block: its output, and its keys and values `[P, heads, T,
    d_head]`.
    """

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
    core, blocks, outputs, cache = (
        bare(model),
        site_modules(model, "resid_post"),
        [],
        DynamicCache(),
    )
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
    """What is the same for all rows of one sweep."""

    site: str
    positions: str
    max_new_tokens: int
    eos_token_id: int
    early_end: bool
    looked_for: tuple[
        bool, bool
    ]  # which of the two candidates matter: a row ends when it fits none of these

    @classmethod
    def of(
        cls,
        model,
        prompts,
        site,
        positions,
        max_new_tokens,
        eos_token_id,
        early_end,
        looked_for=(True, True),
    ) -> Decoding:
        """With the defaults that come from the model and the candidates filled in."""
        if max_new_tokens is None:
            max_new_tokens = prompts.candidates.shape[-1]
        if eos_token_id is None:
            eos_token_id = bare(model).config.eos_token_id
        return cls(site, positions, max_new_tokens, eos_token_id, early_end, looked_for)


def _answer_rows(
    model: nn.Module,
    prompts: Prompts,
    shared: _Shared,
    skip: int,
    deltas: torch.Tensor,
    cell: torch.Tensor,
    prompt: torch.Tensor,
    run: Decoding,
) -> torch.Tensor:
    """Which candidates the greedy answers equal, `[rows, 2]`; row r is prompt `prompt[r]` under
    `deltas[cell[r]]`.

    The first `skip` blocks of the prompt's pass come from `shared`; with `"decision"` it is instead
    every block's pass over all prompt tokens but the last.
    """
    core, blocks, cache = bare(model), site_modules(model, "resid_post"), DynamicCache()
    fits = torch.tensor(run.looked_for, device=core.device).repeat(len(cell), 1)
    ended = torch.zeros(len(cell), dtype=torch.bool, device=core.device)
    live = torch.arange(len(cell), device=core.device)  # the rows still in the batch
    ids, mask = prompts.input_ids[prompt], prompts.attention_mask[prompt]
    positions = position_ids(mask)
    if run.positions == "decision":
        for layer, (keys, values) in enumerate(zip(shared.keys, shared.values)):
            cache.update(keys[prompt, :, :-1], values[prompt, :, :-1], layer)
        ids, positions = ids[:, -1:], positions[:, -1:]
    resumed = (
        with_vector(shared.outputs[skip - 1], vector_of(shared.outputs[skip - 1])[prompt])
        if skip
        else None
    )

    for step in range(run.max_new_tokens):
        with (
            shift(model, run.site, deltas[cell[live]]),
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
        token = chosen.masked_fill(
            ended[live], -1
        )  # after its end token an answer is padded like the candidates
        fits[live] &= prompts.candidates[prompt[live], :, step] == token[:, None]
        ended[live] |= token == run.eos_token_id
        going_on = (
            ~ended[live] & fits[live].any(-1) if run.early_end else ~ended.all().expand(len(live))
        )
        if step + 1 == run.max_new_tokens or not going_on.any():
            break
        if not going_on.all():
            live, chosen, mask = live[going_on], chosen[going_on], mask[going_on]
            cache.batch_select_indices(going_on.nonzero()[:, 0])
        if (
            step == 0
        ):  # the skipped blocks' keys and values are needed only now, and only for the rows that go on
            for layer in range(skip):
                cache.update(
                    shared.keys[layer][prompt[live]], shared.values[layer][prompt[live]], layer
                )
        ids, mask = chosen[:, None], torch.nn.functional.pad(mask, (0, 1), value=1)
        positions = mask.sum(-1, keepdim=True) - 1
    return fits & (prompts.candidates[prompt, :, run.max_new_tokens :] == -1).all(-1)


def matched_candidates(
    model: nn.Module, prompts: Prompts, deltas: torch.Tensor, rows_per_batch: int, run: Decoding
) -> torch.Tensor:
    """Which candidates the answers equal, `[C, P, 2]`, for all cells on all prompts."""
    n_layer = deltas.shape[1]
    touched = deltas.any(-1)  # [C, n_layer]
    lowest = torch.where(touched.any(-1), touched.int().argmax(-1), n_layer)
    if run.positions == "decision":
        skips, depth = torch.zeros_like(lowest), n_layer
    else:
        # resid_post is edited after its block, so that block is still the same for all cells
        skips = (lowest + (run.site == "resid_post")).clamp(max=n_layer)
        depth = int(skips.max())
    matches = torch.zeros(len(deltas), len(prompts), 2, dtype=torch.bool, device=deltas.device)
    everyone = torch.arange(len(prompts), device=deltas.device)
    with evaluating(model):
        for chunk in everyone.split(rows_per_batch):
            part = prompts[chunk]
            shared = _unsteered(model, part, depth)
            for skip in skips.unique().tolist():
                cells = (skips == skip).nonzero()[:, 0]
                rows = torch.cartesian_prod(cells, everyone[: len(part)])
                for cell, prompt in (batch.unbind(-1) for batch in rows.split(rows_per_batch)):
                    matches[cell, chunk[prompt]] = _answer_rows(
                        model, part, shared, skip, deltas, cell, prompt, run
                    )
    return matches


def placed(
    model: nn.Module, prompts: Prompts, deltas: torch.Tensor, rows_per_batch: int, run: Decoding
) -> tuple[Prompts, torch.Tensor]:
    """Prompts and deltas on the model's device, candidates at least as long as an answer; checks
    everything first.
    """
    core = bare(model)
    n_layer = len(site_modules(model, run.site))
    if run.positions not in POSITIONS:
        raise ValueError(
            f"positions {run.positions!r} is unknown; choose one of {', '.join(POSITIONS)}"
        )
    if deltas.ndim != 3 or not len(deltas):
        raise ValueError(f"deltas {list(deltas.shape)} is not [cells, n_layer, d_model]")
    check_delta(deltas, n_layer, core.config.hidden_size)
    if run.eos_token_id is None:
        raise ValueError("eos_token_id: the model's configuration has none, give it")
    for name, value in (("rows_per_batch", rows_per_batch), ("max_new_tokens", run.max_new_tokens)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
    missing = max(0, run.max_new_tokens - prompts.candidates.shape[-1])
    candidates = torch.nn.functional.pad(prompts.candidates, (0, missing), value=-1)
    placed = (
        tensor.to(core.device) for tensor in (prompts.input_ids, prompts.attention_mask, candidates)
    )
    return Prompts(*placed), deltas.to(device=core.device, dtype=core.dtype)


@torch.inference_mode()
def run_cells(
    model: nn.Module,
    prompts: Prompts,
    deltas: torch.Tensor,
    *,
    site: str = "resid_post",
    positions: str = "all",
    rows_per_batch: int = 512,
    early_end: bool = True,
    max_new_tokens: int | None = None,
    eos_token_id: int | None = None,
) -> torch.Tensor:
    """Behaviour of every cell on every prompt: int8 `[C, P]`, 0 memorization, 1 generalization, 2
    other.

    `deltas`: `[C, n_layer, d_model]`, one shift per cell; `site` and `positions` as in
    `memgen.hooks.shift`. An answer is greedy and ends with `eos_token_id` (the model's by default)
    or after `max_new_tokens` (by default as many as the longest candidate has). It counts as a
    behaviour if it equals that candidate, end token included (memorization, should both candidates
    be the same). `early_end=False` lets every row go on until all have ended, as `generate` does:
    the same codes for more work. Errors: `ValueError` for an unknown site, `positions` or
    architecture, for deltas that are not finite or of another shape, and for sizes below 1.
    """
    run = Decoding.of(model, prompts, site, positions, max_new_tokens, eos_token_id, early_end)
    prompts, deltas = placed(model, prompts, deltas, rows_per_batch, run)
    memory, rule = matched_candidates(model, prompts, deltas, rows_per_batch, run).cpu().unbind(-1)
    codes = torch.full(memory.shape, OTHER_CODE, dtype=torch.int8)
    codes[rule] = RULE_CODE
    codes[memory] = MEMORY_CODE
    return codes
