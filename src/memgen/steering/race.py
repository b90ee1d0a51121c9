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

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from scipy.stats import binom, hypergeom
from torch import nn

from memgen.steering.engine import Decoding, matched_candidates, placed
from memgen.steering.prompts import Prompts
from memgen.terms import MEMORY_CODE, RULE_CODE


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
    if target_code not in (MEMORY_CODE, RULE_CODE):
        raise ValueError(f"target_code must be {MEMORY_CODE} or {RULE_CODE}, not {target_code}")
    looked_for = (target_code == MEMORY_CODE, target_code == RULE_CODE)
    run = Decoding.of(
        model, prompts, site, positions, max_new_tokens, eos_token_id, True, looked_for
    )
    prompts, deltas = placed(model, prompts, deltas, rows_per_batch, run)
    # run_cells calls an answer that fits both candidates memorization
    possible = ~(prompts.candidates[:, 0] == prompts.candidates[:, 1]).all(-1) | (
        target_code == MEMORY_CODE
    )

    def succeeds(cells: list[int], index: torch.Tensor) -> torch.Tensor:
        matches = matched_candidates(
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
