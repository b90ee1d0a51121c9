"""Which cell is chosen where the most successful one ruins what should not change."""

import numpy as np
import pandas as pd
import pytest
import torch

from memgen.steering.cells import Cell, cell_shift, grid
from memgen.steering.choice import Choice, Collateral, Known, choose
from memgen.steering.steering import steering_prompts
from memgen.terms import DIRECTIONS, SIGN, TARGET
from steered import ONE


class Stub:
    """A steering whose outcomes are given: `turned`, `intact` bool `[cells, prompts]`."""

    nmd = np.zeros((1, 1))

    def __init__(self, turned, intact):
        self.turned, self.intact, self.looked = np.array(turned), np.array(intact), []

    def shift(self, cell):
        return np.full((1, 1), cell.alpha)

    def succeeds(self, shifts, rows, target_code):
        table = self.turned if len(shifts) > 1 else None
        if table is None:  # free prompts: one cell at a time, 0 is the unsteered model
            alpha = int(abs(shifts[0, 0, 0]))
            self.looked += [alpha] if alpha else []
            right = self.intact[alpha - 1] if alpha else np.ones(self.intact.shape[1], dtype=bool)
            return lambda cells, index: torch.from_numpy(right[index.numpy()])[None]
        return lambda cells, index: torch.from_numpy(table[cells][:, index.numpy()])


def first(n, of):
    return np.arange(of) < n


def choice_of(turned, lost, limit=0.01, n_free=200):
    """Cells 1, 2, ... that turn so many of 100 prompts and lose so many free ones."""
    intact = [~first(k, n_free) for k in lost]
    steering = Stub([first(k, 100) for k in turned], intact)
    cells = [Cell(0.1, float(k + 1)) for k in range(len(turned))]
    collateral = Collateral(steering, range(n_free), limit)
    return choose(steering, cells, range(100), "m2g", collateral), steering


@pytest.mark.parametrize(
    "turned, lost, best, kept",
    [
        ([10, 50, 90], [0, 0, 0], 3, 3),  # the best one harms nobody
        ([10, 50, 90], [0, 2, 150], 3, 2),  # a point may be lost: 2 of 200
        ([10, 50, 90], [0, 3, 150], 3, 1),  # not more
        ([10, 50, 90], [3, 3, 150], 3, None),  # the gentlest is no way out
        ([50, 50, 50], [150, 0, 0], 1, 2),  # of equals the gentler
        ([0, 0, 90], [0, 0, 150], 3, 1),  # nothing gained within the limit is said, too
    ],
)
def test_the_best_within_the_limit_is_kept(turned, lost, best, kept):
    choice, steering = choice_of(turned, lost)
    assert choice.max.alpha == best
    assert (choice.kept and choice.kept.alpha) == kept
    assert choice.cell == (choice.kept or choice.max) and choice.name == ("kept" if kept else "max")
    # from the most successful downwards, and no further than needed
    order = sorted(range(3), key=lambda k: (-turned[k], k))
    assert steering.looked == [k + 1 for k in order][: len(steering.looked)]
    assert len(steering.looked) == (3 if kept is None else order.index(kept - 1) + 1)
    told = choice.validation(choice.max)
    assert told["validation_free_after"] == 1 - lost[best - 1] / 200  # on all of them
    assert told["validation_success"] == turned[best - 1] / 100 and told["validation_n_free"] == 200


def test_a_cell_that_has_lost_too_many_is_not_run_further():
    choice, _ = choice_of([90, 80, 10], [150, 150, 0], n_free=500)
    assert choice.race.free_seen.tolist() == [500, 64, 500]
    assert choice.race.free_right.tolist() == [350, 0, 500]
    counts = ["successes", "evaluated", "free_right", "free_seen"]
    assert {choice.race[name].dtype.kind for name in counts} == {"i"}  # counts, in the table too


def test_what_validation_said_of_a_cell_is_read_from_its_own_row():
    race = pd.DataFrame(
        {
            "top_n": [0.1, 0.2, 0.2],
            "alpha": [1.0, 1.0, 4.0],
            "successes": [1, 2, 30],
            "evaluated": [10, 20, 40],
            "free_right": [50, 60, 90],
            "free_seen": [64, 64, 120],
        }
    )
    cell = Cell(0.2, 4.0)
    assert Choice(race, cell, None, before=108, n_free=120).validation(cell) == {
        "validation_success": 0.75,
        "validation_n": 40,
        "validation_free_before": 0.9,
        "validation_free_after": 0.75,
        "validation_n_free": 120,
    }


def test_known_outcomes_are_not_asked_again():
    asked = []

    def succeeds(cells, prompts):
        asked.append((cells, prompts.tolist()))
        return torch.tensor([[bool((c + p) % 2) for p in prompts.tolist()] for c in cells])

    known = Known(succeeds, 3, 6)
    everything = torch.tensor([[bool((c + p) % 2) for p in range(6)] for c in range(3)])
    for cells, prompts in (
        ([0, 1], [0, 1]),
        ([2, 1], [1, 4]),
        ([0, 1, 2], [5, 1, 0, 4]),
        ([1], [4]),
    ):
        found = known(cells, torch.tensor(prompts))
        assert torch.equal(found, everything[cells][:, prompts])
    assert asked[:2] == [([0, 1], [0, 1]), ([2, 1], [1, 4])] and len(asked) == 3


def test_known_outcomes_may_be_asked_in_part():
    known = Known(lambda cells, prompts: torch.ones(len(cells), len(prompts)) > 0, 4, 9)
    known([0, 3], torch.tensor([2, 5]))
    assert known.seen.sum() == 4 and known.won.sum() == 4


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_free_prompts_show_the_planted_damage(alike, direction):
    """+1 leaves free prompts with the rule, -1 turns every one of them to the memory's answer."""
    steering, frame, answered = alike
    free = frame[(frame.kind == "free") & (frame.split == "validation")]
    collateral = Collateral(steering, free, 0.01)
    assert collateral.before == collateral.n == collateral.enough == len(free)
    shift = SIGN[direction] * cell_shift(Cell(ONE, 1.0), steering.nmd, steering.rho)
    assert collateral.right(shift) == ((len(free) if direction == "m2g" else 0), len(free))
    tuning = steering_prompts(answered, "validation", direction, 20)
    cells = grid([1.0, 4.0], [ONE], steering.nmd, steering.rho)
    choice = choose(steering, cells, tuning, direction, collateral)
    assert choice.max == Cell(ONE, 1.0)
    assert choice.kept == (Cell(ONE, 1.0) if direction == "m2g" else None)
    best, race = steering.choose(cells, tuning, direction)  # without a limit the race is the same
    assert best == choice.max and TARGET[direction] in (0, 1)
    assert race.successes[cells.index(best)] == choice.race.successes[cells.index(best)]
