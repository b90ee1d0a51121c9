"""Which cell is chosen where the most successful one ruins what should not change."""

import numpy as np
import pandas as pd
import pytest

from memgen.steering.cells import Cell, cell_shift, grid
from memgen.steering.choice import Choice, Collateral, choose
from memgen.steering.steering import steering_prompts
from memgen.terms import DIRECTIONS, RULE_CODE, SIGN
from steered import ONE


class Stub:
    """A steering whose outcomes are given: `turned`, `intact` bool `[cells, prompts]`."""

    nmd = np.zeros((1, 1))

    def __init__(self, turned, intact):
        self.turned = np.array(turned)
        self.intact = np.concatenate([intact, np.ones((1, len(intact[0])), dtype=bool)])
        self.looked = np.zeros(self.intact.shape, dtype=int)

    def shift(self, cell):
        return np.full((1, 1), cell.alpha)

    def leads(self, shifts, rows, target_code):
        """By the strength of a shift: 1, 2, ...; 0 is the unsteered model, the last row of `intact`."""
        number = np.abs(shifts[:, 0, 0]).astype(int) - 1
        table = self.turned if len(rows) == self.turned.shape[1] else self.intact

        def leads(cells, prompts):
            if table is self.intact:
                np.add.at(self.looked, (number[cells], prompts), 1)
            return np.where(table[number[cells], prompts], 1.0, -1.0)

        return leads


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
    assert set(choice.risk) == {"max", "kept"} and max(choice.risk.values()) <= 0.05
    assert (
        steering.looked.max() == 1 and (steering.looked[-1] == 1).all()
    )  # the unsteered model once
    told = choice.validation(choice.max)
    assert told["validation_free_after"] == 1 - lost[best - 1] / 200  # on all of them
    assert told["validation_success"] == turned[best - 1] / 100 and told["validation_n_free"] == 200


def test_free_prompts_are_run_only_where_it_is_open_what_a_cell_does_to_them():
    choice, steering = choice_of([90, 80, 10], [150, 150, 0], n_free=500)
    race = choice.race
    assert race.free_seen[0] == race.free_seen[2] == 500 > race.free_seen[1]  # told, and kept
    assert race.free_right.tolist()[::2] == [350, 500]
    assert race.out.tolist() == [True, True, False]
    assert steering.looked[:-1].sum() == race.free_seen.sum() == choice.rows["free_run"]
    counts = ["successes", "evaluated", "free_right", "free_seen"]
    assert {race[name].dtype.kind for name in counts} == {"i"}  # counts, in the table too


def test_where_the_best_cell_harms_nobody_no_other_is_run_on_free_prompts():
    choice, _ = choice_of([10, 50, 90], [0, 0, 0])
    assert choice.race.free_seen.tolist() == [0, 0, 200] and choice.kept == choice.max


def test_the_rows_of_a_choice_are_counted():
    choice, _ = choice_of([10, 50, 90], [0, 3, 150])
    rows = choice.rows
    assert rows["grid"] == 3 * 100 and rows["free_grid"] == 3 * 200
    assert rows["alone"] <= rows["run"] == choice.race.evaluated.sum() <= rows["grid"]
    n = choice.race.evaluated.max()
    assert (choice.race.expected >= choice.race.successes).all()
    assert (choice.race.expected <= choice.race.successes + n - choice.race.evaluated).all()


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
    risk = {"max": 0.01, "kept": 0.02}
    assert Choice(race, cell, None, 108, 120, risk, alone=9).validation(cell) == {
        "validation_success": 0.75,
        "validation_n": 40,
        "validation_free_before": 0.9,
        "validation_free_after": 0.75,
        "validation_n_free": 120,
    }


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_free_prompts_show_the_planted_damage(alike, direction):
    """+1 leaves free prompts with the rule, -1 turns every one of them to the memory's answer."""
    steering, frame, answered = alike
    free = frame[(frame.kind == "free") & (frame.split == "validation")]
    collateral = Collateral(steering, free, 0.01)
    assert collateral.before == collateral.n == collateral.enough == len(free)
    shift = SIGN[direction] * cell_shift(Cell(ONE, 1.0), steering.nmd, steering.rho)
    table = collateral.table(shift[None])
    table.finish(0)
    assert table.won[0].sum() == (len(free) if direction == "m2g" else 0)
    assert table.whole(1) and table.won[1].all()  # the unsteered model, behind the cells
    leads = steering.leads(0 * shift[None], free, RULE_CODE)
    found = leads(np.zeros(len(free), dtype=int), np.arange(len(free)))
    np.testing.assert_array_equal(found, collateral.unsteered)
    tuning = steering_prompts(answered, "validation", direction, 20)
    cells = grid([1.0, 4.0], [ONE], steering.nmd, steering.rho)
    choice = choose(steering, cells, tuning, direction, collateral)
    assert choice.max == Cell(ONE, 1.0)
    assert choice.kept == (Cell(ONE, 1.0) if direction == "m2g" else None)
