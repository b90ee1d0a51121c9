"""The candidate that is chosen: the most successful, and the most successful within the limit."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from memgen.rivals.choosing import Chooser, Tuning, alike, leads_of
from memgen.rivals.interventions import Read, Shift
from memgen.rivals.method import Candidate
from memgen.steering.choice import Collateral, choose
from memgen.steering.outlook import kinship
from memgen.steering.steering import Steering
from memgen.terms import DIRECTIONS, RULE_CODE, SIGN


@dataclass(frozen=True)
class Told:
    """An intervention whose outcomes are given: it turns so many prompts, and loses so many free ones."""

    turns: int
    loses: int
    asked: list

    def read(self, steering: Steering, rows) -> Read:
        free = (rows.key == "").all()
        self.asked.append("free" if free else "conflict")
        right = np.arange(len(rows)) >= self.loses if free else np.arange(len(rows)) < self.turns
        fits = torch.zeros(len(rows), 2, dtype=torch.bool)
        fits[:, RULE_CODE] = torch.from_numpy(right)
        return Read(fits, torch.zeros(len(rows), 3))


def told(*pairs) -> tuple[list[Candidate], list]:
    asked: list = []
    return [Candidate("", {}, i, Told(*pair, asked)) for i, pair in enumerate(pairs)], asked


@pytest.mark.parametrize(
    "pairs, best, kept, free_passes",
    [
        ([(1, 0), (3, 0), (5, 0)], 2, 2, 1),  # the best one harms nobody, and no other is asked
        ([(1, 0), (3, 2), (5, 9)], 2, 1, 2),  # two of ten may be lost
        ([(1, 0), (3, 3), (5, 9)], 2, 0, 3),
        ([(1, 3), (3, 3), (5, 9)], 2, None, 3),  # the gentlest is no way out
        ([(5, 0), (5, 0), (5, 0)], 0, 0, 1),  # of equals the gentlest
        ([(5, 9), (5, 0), (5, 0)], 0, 1, 2),
    ],
)
def test_the_most_successful_within_the_limit(board, pairs, best, kept, free_passes):
    free = board.tuning.free
    assert len(free) == 10
    candidates, asked = told(*pairs)
    chooser = Chooser(board.material.steering, replace(board.tuning, limit=0.2))
    chosen = chooser.choose(candidates, "m2g")
    assert (chosen.max, chosen.kept) == (best, kept) and asked.count("free") == free_passes
    assert asked.count("conflict") == len(pairs) and chosen.risk == {"max": 0.0, "kept": 0.0}
    found = chosen.validation(best)
    assert found["validation_success"] == pairs[best][0] / len(board.tuning.turned["m2g"])
    assert found["validation_free_before"] == 1.0
    assert found["validation_free_after"] == pytest.approx(1 - pairs[best][1] / 10)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_papers_cells_are_raced_exactly_as_lab_06_races_them(board, direction):
    material, tuning = board.material, board.tuning
    cells = list(material.cells)
    collateral = Collateral(material.steering, tuning.free, tuning.limit)
    by_lab = choose(material.steering, cells, tuning.turned[direction], direction, [collateral])
    candidates = [
        Candidate("", {}, i, Shift(SIGN[direction] * material.steering.shift(cell), "all"))
        for i, cell in enumerate(cells)
    ]
    found = board.chooser.choose(candidates, direction)
    assert cells[found.max] == by_lab.max and found.rows_run == by_lab.rows["run"]
    assert (None if found.kept is None else cells[found.kept]) == by_lab.kept
    assert found.validation(found.max) == by_lab.validation(by_lab.max)


def test_shifts_at_both_positions_are_run_as_each_would_be_alone(board):
    steering, rows = board.material.steering, board.tuning.turned["m2g"]
    steps = np.zeros((4, 2, 8))
    steps[:, 1, 0] = [0.2, 0.5, 1.0, 3.0]
    shifts = [Shift(step, "decision" if i % 2 else "all") for i, step in enumerate(steps)]
    cells, prompts = np.divmod(np.arange(4 * len(rows)), len(rows))
    mixed = leads_of(steering, shifts, rows, RULE_CODE)(cells, prompts).reshape(4, -1)
    for i, one in enumerate(shifts):
        codes = one.read(steering, rows).codes
        assert np.array_equal(mixed[i] > 0, codes == RULE_CODE)


def test_how_alike_shifts_are_taken_to_be_is_a_correlation():
    steps = np.random.default_rng(0).normal(size=(6, 2, 8))
    shifts = [Shift(one, where) for one in steps for where in ("all", "decision")]
    kin = alike(shifts)
    assert np.linalg.eigvalsh(kin).min() > 0 and np.allclose(np.diag(kin), 1)
    plain = kinship(np.stack([one.delta for one in shifts]))
    assert kin[0, 1] < plain[0, 1] and kin[0, 2] == pytest.approx(plain[0, 2])


def test_untouched_is_within_any_limit(board):
    tuning = Tuning(board.tuning.turned, board.tuning.free, 0.0)
    (collateral,) = Chooser(board.material.steering, tuning).collaterals
    assert collateral.enough == collateral.before == len(tuning.free)


def test_facts_are_held_to_the_limit_too_and_counted_apart(board):
    """Pushed to the rule all keyed prompts change, so nothing is kept where they should stay."""
    steering, tuning = board.material.steering, board.tuning
    facts = replace(tuning, facts=board.material.keyed[:8])
    deltas = np.zeros((3, 2, 8))
    deltas[:, 1, 0] = [0.01, 1.0, 1.1]
    shifts = [Candidate("", {}, i, Shift(delta, "all")) for i, delta in enumerate(deltas)]
    plain, held = (Chooser(steering, one).choose(shifts, "m2g") for one in (tuning, facts))
    assert plain.kept == plain.max == 1 and held.max == 1 and held.kept == 0
    found = held.validation(1)
    assert found["validation_keyed_before"] == 1.0 and found["validation_keyed_after"] == 0.0
    assert found["validation_n_keyed"] == 8 and "validation_keyed_after" not in plain.validation(1)
    edits = [Candidate("", {}, i, _Run(one.intervention)) for i, one in enumerate(shifts)]
    tried = Chooser(steering, facts).choose(edits, "m2g")
    assert (tried.max, tried.kept) == (1, 0)
    assert tried.validation(1) == held.validation(1)


@dataclass(frozen=True)
class _Run:
    """A shift that is no shift to whoever looks at its type: it is tried on every prompt."""

    shift: Shift

    def read(self, steering: Steering, rows) -> Read:
        return self.shift.read(steering, rows)
