"""The race: the best cell of a grid, without running every cell on every prompt.

Each prompt is run in a few cells first. From these rows an `Outlook` tells the chance of success of all
the others, and with that of every cell the chance of being better than the best one so far. The rows
that would say most about it are run next, until the chance that any cell is better, which is no larger
than the sum of theirs, is small enough. The best cell itself is run on all prompts.

That sum is the bound that is printed. It holds if leads are what an outlook takes them to be: it is a
chance given the rows that were run, so it does not matter which were chosen, or when the race ended.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from memgen.steering.engine import Decoding, Sweep
from memgen.steering.outlook import Outlook, kinship
from memgen.steering.prompts import Prompts
from memgen.terms import MEMORY_CODE, RULE_CODE

FEW = 12  # rows of one cell are run at once, at least
ROUND = 64  # rows of a round, at least: fewer cost as much as these
#: leads `[rows]` of rows, each a cell and a prompt: `passes.Decoded.leads` of the looked-for answer
Leads = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Rules:
    """How a race is run.

    `risk`: it ends when the chance of having lost the best cell is no larger. `first`: share of the
    rows that are run to begin with; `share`: that a round runs. `order`: preference among equally
    good cells (default 0, 1, ...). `seed`: of which rows are run first.
    """

    risk: float = 0.05
    first: float = 0.04
    share: float = 0.005
    order: Sequence[int] | None = None
    seed: int = 0

    def __post_init__(self):
        if not 0 <= self.risk < 1:
            raise ValueError(f"risk must be in [0, 1), not {self.risk}")

    def round(self, table: Table) -> int:
        """How many rows the next round runs."""
        return max(ROUND, round(self.share * table.run.size))

    def preference(self, n_cells: int) -> np.ndarray:
        """`[C]`, the preferred cell's is the highest."""
        order = list(range(n_cells) if self.order is None else self.order)
        if sorted(order) != list(range(n_cells)):
            raise ValueError(f"order is not a permutation of the {n_cells} cells")
        return -np.argsort(order)


class Table:
    """Cells x prompts, of which few are run."""

    def __init__(self, leads: Leads, kin: np.ndarray, n_prompts: int):
        if not len(kin) or n_prompts < 1:
            raise ValueError(f"nothing to race: {len(kin)} cells, {n_prompts} prompts")
        self.leads, self.outlook = leads, Outlook(kin, n_prompts)

    @property
    def run(self) -> np.ndarray:
        """Bool `[C, P]`."""
        return self.outlook.run

    @property
    def won(self) -> np.ndarray:
        """Bool `[C, P]`, false where nothing was run."""
        return self.outlook.won

    def ask(self, cells: np.ndarray, prompts: np.ndarray) -> None:
        """Run these rows, unless they were."""
        new = ~self.run[cells, prompts]
        cells, prompts = cells[new], prompts[new]
        if len(cells):
            self.outlook.learn(cells, prompts, self.leads(cells, prompts))

    def finish(self, cell: int) -> None:
        """Run it on all prompts that are left."""
        left = np.flatnonzero(~self.run[cell])
        self.ask(np.full(len(left), cell), left)

    def begin(self, rules: Rules) -> None:
        """Run the first rows: every cell on equally many prompts, every prompt in equally many cells."""
        n_cells, n_prompts = self.run.shape
        each = max(2, round(rules.first * n_prompts))
        rng = np.random.default_rng(rules.seed)
        cells = np.concatenate([rng.permutation(n_cells) for _ in range(each)])
        # each permutation's cells meet other prompts than the one's before
        prompts = np.concatenate(
            [rng.permutation(n_prompts) for _ in range(-(-len(cells) // n_prompts))]
        )
        rows = np.unique(np.stack([cells, prompts[: len(cells)]]), axis=1)
        self.ask(*rows)

    def whole(self, cell: int) -> bool:
        return bool(self.run[cell].all())


@dataclass(frozen=True)
class Limit:
    """A cell counts only if it succeeds on at least `enough` prompts of another table.

    That table may have more cells than the grid, behind those of it. Nothing is foretold of it: a cell
    is out when it was seen to fail too often, and it is run first where it is likeliest to.
    """

    table: Table
    enough: int

    @property
    def spared(self) -> np.ndarray:
        """By cell how many more failures it may have, `[C]`; below 0: it is out."""
        n = self.table.run.shape[1]
        return n - self.enough - (self.table.run & ~self.table.won).sum(1)

    @property
    def suspect(self) -> np.ndarray:
        """Cells that may well be out, bool `[C]`: hardly run yet, or failing at every fourth prompt."""
        run = self.table.run.sum(1)
        failed = run - self.table.won.sum(1)
        hardly = run < self.table.run.shape[1] - self.enough + 1
        return (self.spared >= 0) & (run < self.table.run.shape[1]) & (hardly | (4 * failed > run))

    def ask(self, cells: Sequence[int]) -> None:
        """Run each cell on some prompts more: where cells like it fail, or nearly do.

        At least on as many as would show it to be out, if it failed at all of them.
        """
        prompts = [self._likely_to_fail(cell) for cell in cells]
        self.table.ask(np.repeat(cells, [len(some) for some in prompts]), np.concatenate(prompts))

    def _likely_to_fail(self, cell: int) -> np.ndarray:
        n = max(int(self.spared[cell]) + 1, FEW, self.table.run[cell].sum() // 2)
        run, lead, kin = self.table.run, self.table.outlook.lead, self.table.outlook.kin[cell]
        whole = run.all(1)  # such as the unsteered model
        plain = lead[whole].mean(0) if whole.any() else np.zeros(run.shape[1])
        # how far below that the leads were in other cells, the more alike the heavier
        below = np.where(run, lead - plain, 0)
        alike = (kin - kin.min()) ** 2
        typical, little = below.sum() / max(1, run.sum()), 0.1
        hope = plain + (alike @ below + little * typical) / (alike @ run + little)
        left = np.flatnonzero(~run[cell])
        return left[np.argsort(hope[left], kind="stable")[:n]]


@dataclass(frozen=True)
class Verdict:
    """The best cell (None: none is within the limit), and the chance that another one is better."""

    best: int | None
    risk: float


def settle(table: Table, rules: Rules, limits: Sequence[Limit] = ()) -> Verdict:
    """The cell with most successes, of those within all limits; run on all prompts, as the limits'.

    Who is within a limit is no matter of chance: a cell that is better than the one chosen was seen
    to fail too often.
    """
    n_cells = len(table.run)
    preference = rules.preference(n_cells)
    while True:
        left = within(limits, n_cells)
        if not left.any():
            return Verdict(None, 0.0)
        leader, better = _standing(table, left, preference)
        lost = np.where(left, better, 0)
        lost[leader] = 0
        risk = min(1.0, float(lost.sum()))
        if risk > rules.risk:
            _run_next(table, rules, limits, (leader, lost))
        elif doubted := [limit for limit in limits if limit.suspect[leader]]:
            doubted[0].ask([leader])
        elif not table.whole(leader):
            table.finish(leader)
        elif unfinished := [limit for limit in limits if not limit.table.whole(leader)]:
            unfinished[0].ask([leader])
        else:
            return Verdict(leader, risk)


def settle_twice(table: Table, limits: Sequence[Limit]) -> tuple[Verdict, Verdict, int]:
    """The best cell, the best within the limits, and the rows run after which the first one stood.

    No row of the table was run. Both races share their rows; the best cell's damage is always told, on
    all prompts of every limit.
    """
    rules = Rules()
    table.begin(rules)
    most = settle(table, rules)
    alone = int(table.run.sum())
    for limit in limits:
        limit.table.finish(most.best)
    return most, settle(table, rules, limits), alone


def within(limits: Sequence[Limit], n_cells: int) -> np.ndarray:
    """Cells that no limit has put out yet, bool `[C]`."""
    left = np.ones(n_cells, dtype=bool)
    for limit in limits:
        left &= limit.spared[:n_cells] >= 0
    return left


def _standing(table: Table, left: np.ndarray, preference: np.ndarray) -> tuple[int, np.ndarray]:
    """`(the best cell so far, of those left; chances [C] of turning out better than it)`."""
    expected = table.outlook.chances.sum(1)
    leader = max(
        np.flatnonzero(left), key=lambda cell: (round(expected[cell], 9), preference[cell])
    )
    wanted = int(np.ceil(expected[leader] - 1e-9)) + (preference < preference[leader])
    return int(leader), table.outlook.at_least(wanted)


def _run_next(
    table: Table, rules: Rules, limits: Sequence[Limit], standing: tuple[int, np.ndarray]
) -> None:
    """Run the rows that say most about which cell is best, or that show a cell to be out."""
    leader, lost = standing
    weight = np.where(lost > rules.risk / (4 * len(lost)), np.maximum(lost / lost.max(), 0.05), 0)
    weight[leader] = 1
    for limit in limits:
        suspect = limit.suspect[: len(lost)]
        if ((weight > 0) & suspect).any():
            limit.ask(np.flatnonzero((weight > 0) & suspect))
        weight[suspect] = 0
    chances = table.outlook.chances
    doubt = (np.where(table.run, 0, chances * (1 - chances)) * weight[:, None]).ravel()
    chosen = np.argsort(-doubt, kind="stable")[: rules.round(table)]
    table.ask(*np.unravel_index(chosen[doubt[chosen] > 0], table.run.shape))


@dataclass(frozen=True)
class RaceResult:
    """The winner, and per cell its successes and the prompts it was run on (the winner: all).

    `expected` `[C]`: successes on all prompts, foretold where a row was not run. `risk`: the chance of
    having lost the best cell, 0 if it is certain.
    """

    best: int
    successes: list[int]
    evaluated: list[int]
    expected: list[float]
    rows_run: int
    risk: float

    @classmethod
    def of(cls, table: Table, verdict: Verdict) -> RaceResult:
        run, won = table.run, table.won
        expected = table.outlook.chances.sum(1).tolist()
        counts = won.sum(1).tolist(), run.sum(1).tolist()
        return cls(verdict.best, *counts, expected, int(run.sum()), verdict.risk)


def race_rows(leads: Leads, kin: np.ndarray, n_prompts: int, rules: Rules = Rules()) -> RaceResult:
    """Find the cell with most successes, with a chance of at most `rules.risk` of losing it.

    `kin`: `outlook.kinship` of the cells. With `risk=0` it goes on until no other cell can be better.
    """
    table = Table(leads, kin, n_prompts)
    table.begin(rules)
    return RaceResult.of(table, settle(table, rules))


def contest(
    model: nn.Module,
    prompts: Prompts,
    deltas: torch.Tensor,
    target_code: int,
    decoding: Decoding = Decoding(),
) -> Leads:
    """The leads of the answer `target_code` (0, 1) under the cells `[C, L, d]`, for a `Table`."""
    if target_code not in (MEMORY_CODE, RULE_CODE):
        raise ValueError(f"target_code must be {MEMORY_CODE} or {RULE_CODE}, not {target_code}")
    looked_for = (target_code == MEMORY_CODE, target_code == RULE_CODE)
    sweep = Sweep.of(model, prompts, deltas, replace(decoding, early_end=True), looked_for)
    memory, rule = sweep.prompts.candidates.cpu().unbind(1)
    # run_cells calls an answer that fits both candidates memorization
    possible = ~(memory == rule).all(-1) | (target_code == MEMORY_CODE)

    def leads(cells: np.ndarray, prompts: np.ndarray) -> np.ndarray:
        cell, prompt = torch.from_numpy(np.asarray(cells)), torch.from_numpy(np.asarray(prompts))
        found = sweep.leads(cell, prompt, target_code)
        return torch.where(possible[prompt], found, -found.abs()).numpy()

    return leads


def race(
    model: nn.Module,
    prompts: Prompts,
    deltas: torch.Tensor,
    target_code: int,
    decoding: Decoding = Decoding(),
    rules: Rules = Rules(),
) -> RaceResult:
    """The cell with most answers `target_code` (0, 1), as `run_cells` finds; errors as there."""
    leads = contest(model, prompts, deltas, target_code, decoding)
    return race_rows(leads, kinship(deltas.cpu().numpy()), len(prompts), rules)
