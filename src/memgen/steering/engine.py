"""The steering sweep: every cell (one shift of the hidden states) on every prompt, in few passes.

Plain hooks + `generate` run one cell after another. Here rows of many cells share a batch, with one
shift per row, and work that cannot change the outcome is left out (see `passes`): with
`positions="all"` the prompt's pass through the blocks below the edit, with `"decision"` the
prompt's tokens before the last one. In a `race`, cells that cannot become the best leave on a
subset of the prompts.

The answers are those of plain hooks + `generate` (`do_sample=False`): greedy, deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import nn

from memgen.models.checkpoint import check_room
from memgen.models.hooks import check_delta, evaluating, shift
from memgen.models.sites import bare, site_modules
from memgen.steering.passes import ROWS, Asked, Batch, Unsteered, decoded
from memgen.steering.prompts import Prompts
from memgen.terms import MEMORY_CODE, OTHER_CODE, POSITIONS, RULE_CODE


@dataclass(frozen=True)
class Decoding:
    """How the rows of a sweep are shifted and decoded; None: what the model or the candidates say."""

    site: str = "resid_post"
    positions: str = "all"
    max_new_tokens: int | None = None  # by default as many as the longest candidate has
    eos_token_id: int | None = None  # by default the model's
    rows_per_batch: int = ROWS
    early_end: bool = True  # False: every row goes on until all have ended, as in `generate`


@dataclass(frozen=True)
class Sweep:
    """Cells and prompts where the model is, checked, with everything that their rows share."""

    model: nn.Module
    prompts: Prompts
    deltas: torch.Tensor  # [C, n_layer, d_model]
    decoding: Decoding
    looked_for: tuple[bool, bool]  # which candidates matter: a row ends when it fits none of these

    @cached_property
    def skips(self) -> torch.Tensor:
        """By cell how many blocks of the prompt's pass are the unsteered model's, `[C]`."""
        n_layer, touched = self.deltas.shape[1], self.deltas.any(-1)  # [C, n_layer]
        if self.decoding.positions == "decision":  # one token through all blocks costs next to nothing
            return torch.zeros(len(touched), dtype=torch.long, device=touched.device)
        lowest = torch.where(touched.any(-1), touched.int().argmax(-1), n_layer)
        # resid_post is edited after its block, so that block is still the same for all cells
        return (lowest + (self.decoding.site == "resid_post")).clamp(max=n_layer)

    @cached_property
    def shared(self) -> Unsteered:
        """The unsteered pass, once for all cells."""
        every = self.decoding.positions == "decision"
        depth = None if every else int(self.skips.max())
        with evaluating(self.model):
            return Unsteered.of(self.model, self.prompts, depth, self.decoding.rows_per_batch)

    def rows(self, cell: torch.Tensor, prompt: torch.Tensor, skip: int) -> torch.Tensor:
        """Which candidates the answers equal, `[rows, 2]`; row r: `prompt[r]` under `cell[r]`."""
        decoding = self.decoding
        back = 1 if decoding.positions == "decision" else None
        fits = torch.tensor(self.looked_for).repeat(len(cell), 1)
        asked = Asked(
            self.prompts.candidates[prompt],
            decoding.max_new_tokens,
            decoding.eos_token_id,
            fits,
            decoding.early_end,
        )

        def steered(live: torch.Tensor, step: int):
            return shift(self.model, decoding.site, self.deltas[cell[live]], decoding.positions)

        return decoded(Batch(self.shared, prompt, skip, back), steered, asked).fits

    @classmethod
    def of(
        cls,
        model: nn.Module,
        prompts: Prompts,
        deltas: torch.Tensor,
        decoding: Decoding,
        looked_for: tuple[bool, bool] = (True, True),
    ) -> Sweep:
        """With the defaults filled in; errors as in `run_cells`."""
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
        deltas = deltas.to(device=core.device, dtype=core.dtype)
        return cls(model, prompts.to(core.device), deltas, decoding, looked_for)


@torch.inference_mode()
def matched_candidates(
    sweep: Sweep, cells: torch.Tensor | None = None, prompts: torch.Tensor | None = None
) -> torch.Tensor:
    """Which candidates the answers equal, `[C, P, 2]`, of these cells on these prompts (None: all)."""
    device, size = sweep.deltas.device, sweep.decoding.rows_per_batch
    cells = torch.arange(len(sweep.deltas)) if cells is None else cells
    prompts = torch.arange(len(sweep.prompts)) if prompts is None else prompts
    cells, prompts = cells.to(device), prompts.to(device)
    found = torch.zeros(len(cells), len(prompts), 2, dtype=torch.bool, device=device)
    with evaluating(sweep.model):
        for skip in sweep.skips[cells].unique().tolist():
            which = (sweep.skips[cells] == skip).nonzero()[:, 0]
            rows = torch.cartesian_prod(which, torch.arange(len(prompts), device=device))
            for cell, prompt in (batch.unbind(-1) for batch in rows.split(size)):
                found[cell, prompt] = sweep.rows(cells[cell], prompts[prompt], skip)
    return found


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
