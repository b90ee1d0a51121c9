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

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from scipy.stats import binom, hypergeom
from torch import nn
from transformers import DynamicCache

from memgen.hooks import (
    POSITIONS,
    check_delta,
    check_left_padded,
    evaluating,
    hooked,
    position_ids,
    shift,
    vector_of,
    with_vector,
)
from memgen.sites import bare, site_modules

MEMORIZATION, GENERALIZATION, OTHER = 0, 1, 2  # codes, in the order of memgen.tasks.BEHAVIORS


@dataclass(frozen=True)
class Prompts:
    """Prompts as tokens, with the two answers each is judged by.

    `input_ids`, `attention_mask`: `[P, T]`, padded on the left; `candidates`: `[P, 2, A]`, the
    tokens of the memory's and the rule's answer with their end token, padded on the right with -1.
    Indexing selects prompts.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    candidates: torch.Tensor

    def __post_init__(self):
        check_left_padded(self.input_ids, self.attention_mask)
        if self.candidates.ndim != 3 or self.candidates.shape[:2] != (len(self.input_ids), 2):
            raise ValueError(
                f"candidates {list(self.candidates.shape)} is not [{len(self.input_ids)} prompts,"
                " 2, A]"
            )

    def __len__(self) -> int:
        return len(self.input_ids)

    def to(self, device) -> Prompts:
        return Prompts(
            self.input_ids.to(device), self.attention_mask.to(device), self.candidates.to(device)
        )

    def __getitem__(self, index) -> Prompts:
        return Prompts(self.input_ids[index], self.attention_mask[index], self.candidates[index])


def make_prompts(
    tokenizer, prompts: Sequence[str], memory_answers: Sequence[str], rule_answers: Sequence[str]
) -> Prompts:
    """Tokenize prompts and both answers (each followed by the tokenizer's end token)."""
    if not len(prompts) == len(memory_answers) == len(rule_answers):
        raise ValueError(
            f"{len(prompts)} prompts, {len(memory_answers)} memory_answers and {len(rule_answers)}"
            " rule_answers"
        )
    if tokenizer.eos_token_id is None:
        raise ValueError("tokenizer has no end token (eos_token)")
    if not len(prompts):
        raise ValueError("prompts is empty")

    def answers(texts):
        return [
            ids + [tokenizer.eos_token_id]
            for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        ]

    ids = tokenizer(list(prompts))["input_ids"]
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    memory, rule = answers(memory_answers), answers(rule_answers)
    width, length = max(map(len, ids)), max(map(len, memory + rule))
    return Prompts(
        torch.tensor([[pad] * (width - len(row)) + row for row in ids]),
        torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids]),
        torch.tensor(
            [[row + [-1] * (length - len(row)) for row in pair] for pair in zip(memory, rule)]
        ),
    )


# -- what all cells share --------------------------------------------------------------------------


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


# -- rows ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Run:
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
    ) -> _Run:
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
    run: _Run,
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


def _matches(
    model: nn.Module, prompts: Prompts, deltas: torch.Tensor, rows_per_batch: int, run: _Run
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


def _placed(
    model: nn.Module, prompts: Prompts, deltas: torch.Tensor, rows_per_batch: int, run: _Run
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
    run = _Run.of(model, prompts, site, positions, max_new_tokens, eos_token_id, early_end)
    prompts, deltas = _placed(model, prompts, deltas, rows_per_batch, run)
    memory, rule = _matches(model, prompts, deltas, rows_per_batch, run).cpu().unbind(-1)
    codes = torch.full(memory.shape, OTHER, dtype=torch.int8)
    codes[rule] = GENERALIZATION
    codes[memory] = MEMORIZATION
    return codes


# -- race ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RaceResult:
    """The winning cell, and per cell its successes and the number of prompts it was run on (the
    winner: all).
    """

    best: int
    successes: list[int]
    evaluated: list[int]
    rows_run: int


def race_rows(
    succeeds: Callable[[list[int], torch.Tensor], torch.Tensor],
    n_cells: int,
    n_prompts: int,
    *,
    order: Sequence[int] | None = None,
    risk: float = 0.05,
    rows_per_batch: int = 512,
    seed: int = 0,
) -> RaceResult:
    """Find the cell with most successes without running every cell on every prompt.

    `succeeds(cells, prompts)` runs rows, `[cells, prompts]` bool. Ties go to the cell that comes
    first in `order` (a permutation of the cells, by default 0, 1, ...).

    All cells run side by side, block by block, in an order of the prompts drawn from `seed`.
    Whichever is ahead of the champion is at once run on all prompts, and becomes the champion if it
    ends with more successes. A cell is out

    * when it could not catch up with the champion even by succeeding on all its prompts left
      (exact);
    * up to half of the prompts, also when it is too unlikely to have as many successes on all
      prompts as the champion has: by an exact binomial test on the discordant prompts (one of the
      two succeeds), or by the hypergeometric probability of so few successes among the prompts
      seen. The level of one test is `risk` / (2 x cells x looks): `risk` then bounds the chance,
      over orders of the prompts, of losing the cell that the full grid would choose. `risk=0`
      switches the tests off: the result is then certain.

    The second half of the prompts starts with those where the champion failed: other cells mostly
    fail there too, which uses up the failures they can afford.
    """
    order = list(range(n_cells) if order is None else order)
    if sorted(order) != list(range(n_cells)):
        raise ValueError(f"order is not a permutation of the {n_cells} cells")
    if not 0 <= risk < 1:
        raise ValueError(f"risk must be in [0, 1), not {risk}")
    if n_cells < 1 or n_prompts < 1:
        raise ValueError(f"nothing to race: {n_cells} cells, {n_prompts} prompts")
    preference = {cell: -place for place, cell in enumerate(order)}
    won, seen = torch.zeros(2, n_cells, n_prompts, dtype=torch.bool)
    queue = torch.randperm(n_prompts, generator=torch.Generator().manual_seed(seed))
    screened = (n_prompts + 1) // 2
    largest_block = -(
        -n_prompts // 8
    )  # few cells left must not mean that all prompts are run before the next look
    looks = -(-screened // max(1, min(largest_block, rows_per_batch // n_cells)))
    level = risk / (2 * n_cells * looks)  # two tests

    def run(cells: list[int], prompts: torch.Tensor) -> None:
        if len(prompts):
            index = (torch.tensor(cells)[:, None], prompts)
            won[index], seen[index] = succeeds(cells, prompts), True

    def score(cell: int, extra: int = 0) -> tuple[int, int]:
        return int(won[cell].sum()) + extra, preference[cell]

    def can_win(cell: int, champion: int, tested: bool) -> bool:
        if score(cell, extra=int((~seen[cell]).sum())) < score(champion):
            return False
        if not tested:
            return True
        ahead = int((won[champion] & ~won[cell] & seen[cell]).sum())
        behind = int((won[cell] & ~won[champion]).sum())
        paired = binom.sf(ahead - 1, ahead + behind, 0.5)
        total = hypergeom.cdf(
            int(won[cell].sum()), n_prompts, int(won[champion].sum()), int(seen[cell].sum())
        )
        return min(paired, total) > level

    champion, left = None, order
    for half in (0, 1):
        prompts = queue[screened:] if half else queue[:screened]
        if half:
            prompts = prompts[won[champion, prompts].int().argsort(stable=True)]
        while left and len(prompts):
            size = max(1, min(largest_block, rows_per_batch // len(left)))
            run(left, prompts[:size])
            prompts = prompts[size:]
            first = max(left, key=score)
            if champion is None or score(first) > (
                int((won[champion] & seen[first]).sum()),
                preference[champion],
            ):
                run([first], (~seen[first]).nonzero()[:, 0])
                champion = first if champion is None else max(first, champion, key=score)
                left = [cell for cell in left if cell != first]
            left = [cell for cell in left if can_win(cell, champion, tested=risk > 0 and not half)]
    return RaceResult(champion, won.sum(-1).tolist(), seen.sum(-1).tolist(), int(seen.sum()))


@torch.inference_mode()
def race(
    model: nn.Module,
    prompts: Prompts,
    deltas: torch.Tensor,
    target_code: int,
    *,
    order: Sequence[int] | None = None,
    risk: float = 0.05,
    seed: int = 0,
    site: str = "resid_post",
    positions: str = "all",
    rows_per_batch: int = 512,
    max_new_tokens: int | None = None,
    eos_token_id: int | None = None,
) -> RaceResult:
    """The cell under which most prompts are answered with behaviour `target_code` (0 or 1), as
    `run_cells` would find.

    Rows end as soon as they cannot become the target behaviour. `order`, `risk`, `seed` as in
    `race_rows`, the rest and the errors as in `run_cells`.
    """
    if target_code not in (MEMORIZATION, GENERALIZATION):
        raise ValueError(
            f"target_code must be {MEMORIZATION} or {GENERALIZATION}, not {target_code}"
        )
    looked_for = (target_code == MEMORIZATION, target_code == GENERALIZATION)
    run = _Run.of(model, prompts, site, positions, max_new_tokens, eos_token_id, True, looked_for)
    prompts, deltas = _placed(model, prompts, deltas, rows_per_batch, run)
    # run_cells calls an answer that fits both candidates memorization
    possible = ~(prompts.candidates[:, 0] == prompts.candidates[:, 1]).all(-1) | (
        target_code == MEMORIZATION
    )

    def succeeds(cells: list[int], index: torch.Tensor) -> torch.Tensor:
        matches = _matches(
            model, prompts[index.to(possible.device)], deltas[cells], rows_per_batch, run
        )
        return (matches[..., target_code] & possible[index.to(possible.device)]).cpu()

    return race_rows(
        succeeds,
        len(deltas),
        len(prompts),
        order=order,
        risk=risk,
        rows_per_batch=rows_per_batch,
        seed=seed,
    )
