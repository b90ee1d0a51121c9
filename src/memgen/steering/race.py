"""The race: the cell with most successes, without running every cell on every prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from scipy.stats import binom, hypergeom
from torch import nn

from memgen.phases import phase
from memgen.steering.engine import Decoding, Sweep, matched_candidates
from memgen.steering.prompts import Prompts
from memgen.terms import MEMORY_CODE, RULE_CODE

#: rows, bool `[cells, prompts]`, of these cells on these prompts
Succeeds = Callable[[list[int], torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Rules:
    """`order`: preference among equally good cells (default 0, 1, ...). `seed`: of prompt orders.

    `risk`: bounds the chance, over such orders, of losing the full grid's cell; 0: certain.
    """

    order: Sequence[int] | None = None
    risk: float = 0.05
    seed: int = 0


@dataclass(frozen=True)
class RaceResult:
    """The winner, and per cell its successes and the prompts it was run on (the winner: all)."""

    best: int
    successes: list[int]
    evaluated: list[int]
    rows_run: int


class _Standings:
    """Who has won and been seen where, bool `[cells, prompts]`, and who can still win."""

    def __init__(self, succeeds: Callable, order: list[int], n_prompts: int, level: float):
        self.succeeds, self.level = succeeds, level
        self.preference = {cell: -place for place, cell in enumerate(order)}
        self.won, self.seen = torch.zeros(2, len(order), n_prompts, dtype=torch.bool)

    def run(self, cells: list[int], prompts: torch.Tensor) -> None:
        if len(prompts):
            index = (torch.tensor(cells)[:, None], prompts)
            self.won[index], self.seen[index] = self.succeeds(cells, prompts), True

    def score(self, cell: int) -> tuple[int, int]:
        return int(self.won[cell].sum()), self.preference[cell]

    def finish(self, cell: int) -> None:
        """Run it on all prompts that are left."""
        self.run([cell], (~self.seen[cell]).nonzero()[:, 0])

    def leads(self, cell: int, champion: int | None) -> bool:
        """Is it ahead of the champion on the prompts that it was run on?"""
        if champion is None:
            return True
        same = int((self.won[champion] & self.seen[cell]).sum())
        return self.score(cell) > (same, self.preference[champion])

    def can_win(self, cell: int, champion: int, tested: bool) -> bool:
        won, seen = self.won, self.seen
        successes, preference = self.score(cell)
        if (successes + int((~seen[cell]).sum()), preference) < self.score(champion):
            return False
        if not tested:
            return True
        ahead = int((won[champion] & ~won[cell] & seen[cell]).sum())
        behind = int((won[cell] & ~won[champion]).sum())
        paired = binom.sf(ahead - 1, ahead + behind, 0.5)
        total = hypergeom.cdf(
            successes, won.shape[1], int(won[champion].sum()), int(seen[cell].sum())
        )
        return min(paired, total) > self.level


def race_rows(
    succeeds: Succeeds,
    n_cells: int,
    n_prompts: int,
    rules: Rules = Rules(),
    rows_per_batch: int = 512,
) -> RaceResult:
    """Find the cell with most successes. `succeeds(cells, prompts)`: rows, bool `[cells, prompts]`.

    All cells run side by side, block by block, in an order of the prompts drawn from the seed.
    Whichever is ahead of the champion is at once run on all prompts, and becomes the champion if it
    ends with more successes. A cell is out

    * when it could not catch up with the champion even by succeeding on all its prompts left (exact);
    * up to half of the prompts, also when it is too unlikely to have as many successes on all prompts
      as the champion: by an exact binomial test on the discordant prompts (one of the two succeeds), or
      by the hypergeometric probability of so few successes among the prompts seen. The level of one
      test is `risk` / (2 x cells x looks). `risk=0` switches the tests off.

    The second half of the prompts starts with those where the champion failed: other cells mostly
    fail there too, which uses up the failures they can afford.
    """
    order, risk = list(range(n_cells) if rules.order is None else rules.order), rules.risk
    if sorted(order) != list(range(n_cells)):
        raise ValueError(f"order is not a permutation of the {n_cells} cells")
    if not 0 <= risk < 1:
        raise ValueError(f"risk must be in [0, 1), not {risk}")
    if n_cells < 1 or n_prompts < 1:
        raise ValueError(f"nothing to race: {n_cells} cells, {n_prompts} prompts")
    queue = torch.randperm(n_prompts, generator=torch.Generator().manual_seed(rules.seed))
    screened = (n_prompts + 1) // 2
    # few cells left must not mean that all prompts are run before the next look
    largest_block = -(-n_prompts // 8)
    looks = -(-screened // max(1, min(largest_block, rows_per_batch // n_cells)))
    now = _Standings(succeeds, order, n_prompts, level=risk / (2 * n_cells * looks))  # two tests

    champion, left = None, order
    for half in (0, 1):
        prompts = queue[screened:] if half else queue[:screened]
        if half:
            prompts = prompts[now.won[champion, prompts].int().argsort(stable=True)]
        while left and len(prompts):
            size = max(1, min(largest_block, rows_per_batch // len(left)))
            now.run(left, prompts[:size])
            prompts = prompts[size:]
            first = max(left, key=now.score)
            if now.leads(first, champion):
                now.finish(first)
                champion = first if champion is None else max(first, champion, key=now.score)
                left = [cell for cell in left if cell != first]
            tested = risk > 0 and not half
            left = [cell for cell in left if now.can_win(cell, champion, tested)]
    successes, evaluated = now.won.sum(-1).tolist(), now.seen.sum(-1).tolist()
    return RaceResult(champion, successes, evaluated, int(now.seen.sum()))


def contest(
    model: nn.Module,
    prompts: Prompts,
    deltas: torch.Tensor,
    target_code: int,
    decoding: Decoding = Decoding(),
) -> Succeeds:
    """Which of the cells `[C, L, d]` lead to the answer `target_code` (0, 1), for `race_rows`."""
    if target_code not in (MEMORY_CODE, RULE_CODE):
        raise ValueError(f"target_code must be {MEMORY_CODE} or {RULE_CODE}, not {target_code}")
    looked_for = (target_code == MEMORY_CODE, target_code == RULE_CODE)
    sweep = Sweep.of(model, prompts, deltas, replace(decoding, early_end=True), looked_for)
    memory, rule = sweep.prompts.candidates.unbind(1)
    # run_cells calls an answer that fits both candidates memorization
    possible = ~(memory == rule).all(-1) | (target_code == MEMORY_CODE)

    @phase("sweep")
    @torch.inference_mode()
    def succeeds(cells: list[int], index: torch.Tensor) -> torch.Tensor:
        index = index.to(possible.device)
        part = replace(sweep, prompts=sweep.prompts[index], deltas=sweep.deltas[cells])
        return (matched_candidates(part)[..., target_code] & possible[index]).cpu()

    return succeeds


def race(
    model: nn.Module,
    prompts: Prompts,
    deltas: torch.Tensor,
    target_code: int,
    decoding: Decoding = Decoding(),
    rules: Rules = Rules(),
) -> RaceResult:
    """The cell with most answers `target_code` (0, 1), as `run_cells` finds; errors as there."""
    succeeds = contest(model, prompts, deltas, target_code, decoding)
    return race_rows(succeeds, len(deltas), len(prompts), rules, decoding.rows_per_batch)
