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
from memgen.phases import phase
from memgen.steering.kept import Kept, Tables
from memgen.steering.passes import Asked, Batch, Decoded, decoded
from memgen.steering.prompts import Prompts
from memgen.steering.unsteered import ROWS, Unsteered
from memgen.terms import MEMORY_CODE, OTHER_CODE, POSITIONS, RULE_CODE


@dataclass(frozen=True)
class Decoding:
    """How the rows of a sweep are shifted and decoded; None: what the model or the candidates say."""

    site: str = "resid_post"
    positions: str = "all"
    max_new_tokens: int | None = None  # by default as many as the longest candidate has
    eos_token_id: int | None = None  # by default the model's
    ends: torch.Tensor | None = None  # what ends an answer beside it: `models.endings`
    rows_per_batch: int = ROWS
    kept: Kept | None = None  # unsteered passes of earlier sweeps, with `decision` alone
    tables: Tables | None = None  # unsteered passes over whole tables of earlier sweeps
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
        # one token through all blocks costs next to nothing
        if self.decoding.positions == "decision":
            return torch.zeros(len(touched), dtype=torch.long, device=touched.device)
        lowest = torch.where(touched.any(-1), touched.int().argmax(-1), n_layer)
        # resid_post is edited after its block, so that block is still the same for all cells
        return (lowest + (self.decoding.site == "resid_post")).clamp(max=n_layer)

    @cached_property
    def shared(self) -> Unsteered:
        """The unsteered pass, once for all cells; over a table that is kept, once for all sweeps."""
        decoding, at_decision = self.decoding, self.decoding.positions == "decision"
        if at_decision and decoding.kept is not None:
            with evaluating(self.model):
                return decoding.kept.pick(self.model, self.prompts)
        if decoding.tables is None:
            return self._run(None if at_decision else int(self.skips.max()))
        how = at_decision, decoding.rows_per_batch
        return decoding.tables.pick(self.prompts, how, lambda: self._run(None))

    def _run(self, depth: int | None) -> Unsteered:
        rows, outputs = self.decoding.rows_per_batch, self.decoding.positions != "decision"
        with evaluating(self.model):
            return Unsteered.of(self.model, self.prompts, depth, rows, outputs)

    def _batches(self, cell: torch.Tensor, prompt: torch.Tensor, free: bool = False, **how):
        """`(places, Decoded)` of the rows `prompt[r]` under `cell[r]`, batch by batch.

        `free`: no answer is looked for. `how`: what is asked otherwise, see `Asked`.
        """
        device = self.deltas.device
        cell, prompt = cell.to(device), prompt.to(device)
        with evaluating(self.model):
            for skip in self.skips[cell].unique():
                here = (self.skips[cell] == skip).nonzero()[:, 0]
                for some in here.split(self.decoding.rows_per_batch):
                    asked = replace(self._asked(prompt[some], free), **how)
                    yield some.cpu(), self._decoded(cell[some], prompt[some], asked)

    def _asked(self, prompt: torch.Tensor, free: bool) -> Asked:
        decoding = self.decoding
        matter = torch.tensor(() if free else self.looked_for, dtype=torch.bool)
        return Asked(
            self.prompts.candidates[prompt, : len(matter)],
            decoding.max_new_tokens,
            decoding.eos_token_id,
            decoding.ends,
            matter.repeat(len(prompt), 1),
            decoding.early_end,
        )

    def _decoded(self, cell: torch.Tensor, prompt: torch.Tensor, asked: Asked) -> Decoded:
        decoding = self.decoding
        back = 1 if decoding.positions == "decision" else None

        def steered(live: torch.Tensor, step: int):
            # with `decision` no pass is over other tokens than those that are shifted
            return shift(self.model, decoding.site, self.deltas[cell[live]])

        batch = Batch(self.shared, prompt, int(self.skips[cell[0]]), back)
        return decoded(batch, steered, asked)

    @phase("sweep")
    @torch.inference_mode()
    def codes(self, cell: torch.Tensor, prompt: torch.Tensor) -> torch.Tensor:
        """Behaviours of rows, int8 `[R]`; row r is `prompt[r]` under `cell[r]`."""
        found = torch.full((len(cell),), OTHER_CODE, dtype=torch.int8)
        for some, one in self._batches(cell, prompt):
            memory, rule = one.fits.cpu().unbind(-1)
            found[some[rule]] = RULE_CODE
            found[some[memory]] = MEMORY_CODE
        return found

    @phase("sweep")
    @torch.inference_mode()
    def leads(self, cell: torch.Tensor, prompt: torch.Tensor, candidate: int) -> torch.Tensor:
        """By how much a candidate is ahead, `[R]`: see `passes.Decoded`."""
        found = torch.empty(len(cell))
        for some, one in self._batches(cell, prompt, leads=True):
            found[some] = one.leads[:, candidate].cpu()
        return found

    @phase("sweep")
    @torch.inference_mode()
    def read(self, cell: torch.Tensor, prompt: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Which candidates the answers are, `[R, 2]`, and the first token's log-probabilities `[R, V]`."""
        fits = log = torch.empty(0)
        for some, one in self._batches(cell, prompt):
            if not len(log):  # filled in batch by batch: of a large vocabulary it is large
                fits = one.fits.new_empty(len(cell), one.fits.shape[1], device="cpu")
                log = torch.empty(len(cell), one.logits.shape[1])
            fits[some], log[some] = one.fits.cpu(), one.logits.cpu().float().log_softmax(-1)
        return fits, log

    @phase("sweep")
    @torch.inference_mode()
    def written(self, cell: torch.Tensor, prompt: torch.Tensor) -> torch.Tensor:
        """The rows' greedy answers, whatever they are: tokens `[R, max_new_tokens]`, -1 after the end."""
        found = torch.empty(len(cell), self.decoding.max_new_tokens or 0, dtype=torch.long)
        for some, one in self._batches(cell, prompt, free=True, leave=True):
            found[some] = one.tokens.cpu()
        return found

    @phase("sweep")
    @torch.inference_mode()
    def margins(self, cell: torch.Tensor, prompt: torch.Tensor) -> torch.Tensor:
        """By how much the rule's first token is likelier than the memory's, in logs: float64 `[R]`.

        Nothing is computed of what is written after it.
        """
        found = torch.empty(len(cell), dtype=torch.float64)
        first = self.prompts.candidates[:, :, 0]
        for some, one in self._batches(cell, prompt, length=1, leave=False):
            log = one.logits.float().log_softmax(-1)
            memory, rule = log.gather(1, first[prompt[some].to(first.device)]).unbind(1)
            found[some] = (rule - memory).double().cpu()
        return found

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
    n, every = len(prompts), torch.arange(len(deltas) * len(prompts))
    return Sweep.of(model, prompts, deltas, decoding).codes(every // n, every % n).reshape(-1, n)
