"""Which cell is chosen where the most successful one ruins what should not change."""

import numpy as np
import pandas as pd
import pytest

from memgen.steering.cells import Cell, cell_shift, grid
from memgen.steering.choice import Choice, Collateral, Raced, choose
from memgen.steering.steering import steering_prompts
from memgen.terms import DIRECTIONS, MEMORY_CODE, RULE_CODE, SIGN
from steered import ONE


class Stub:
    """A steering whose outcomes are given: `turned`, `intact`, `known` bool `[cells, prompts]`.

    `intact`: free prompts, `known`: plain facts. Each is told by the number of its prompts.
    """

    nmd = np.zeros((1, 1))

    def __init__(self, turned, intact, known=((True,),)):
        self.turned = np.array(turned)
        self.intact, self.known = (
            np.concatenate([part, np.ones((1, len(part[0])), dtype=bool)])
            for part in (intact, known)
        )
        self.looked = np.zeros(self.intact.shape, dtype=int)
        self.asked: set[tuple[int, int]] = set()  # prompts of a table, code of their right answer

    def shift(self, cell):
        return np.full((1, 1), cell.alpha)

    def leads(self, shifts, rows, target_code):
        """By the strength of a shift: 1, 2, ...; 0 is the unsteered model, the last row of `intact`."""
        number = np.abs(shifts[:, 0, 0]).astype(int) - 1
        (table,) = (of for of in (self.turned, self.intact, self.known) if of.shape[1] == len(rows))
        self.asked.add((len(rows), target_code))

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
    return choose(steering, cells, range(100), "m2g", [collateral]), steering


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


@pytest.mark.parametrize(
    "lost, forgotten, kept",
    [
        ([0, 0, 0], [0, 0, 0], 3),
        ([0, 0, 0], [0, 1, 40], 2),  # a point of either may be lost: 1 of 140, and 2 of 200
        ([0, 0, 0], [0, 2, 40], 1),
        ([0, 3, 0], [0, 0, 40], 1),  # each limit puts out a cell that the other one spares
        ([2, 2, 2], [1, 1, 1], 3),  # apart: three in all are not too many
        ([3, 0, 0], [0, 2, 2], None),
    ],
)
def test_facts_are_counted_apart_from_free_prompts(lost, forgotten, kept):
    intact, known = ([~first(k, n) for k in of] for of, n in ((lost, 200), (forgotten, 140)))
    steering = Stub([first(k, 100) for k in (10, 50, 90)], intact, known)
    cells = [Cell(0.1, alpha) for alpha in (1.0, 2.0, 3.0)]
    limits = [
        Collateral(steering, range(200), 0.01),
        Collateral(steering, range(140), 0.01, "keyed"),
    ]
    choice = choose(steering, cells, range(100), "m2g", limits)
    assert choice.max.alpha == 3.0 and (choice.kept and choice.kept.alpha) == kept
    assert steering.asked == {(100, RULE_CODE), (200, RULE_CODE), (140, MEMORY_CODE)}
    for cell in {choice.max, choice.cell}:
        told, number = choice.validation(cell), int(cell.alpha) - 1
        assert told["validation_free_after"] == 1 - lost[number] / 200  # on all of them
        assert told["validation_keyed_after"] == 1 - forgotten[number] / 140
        assert (told["validation_n_free"], told["validation_n_keyed"]) == (200, 140)
        assert told["validation_free_before"] == told["validation_keyed_before"] == 1.0
    assert choice.race.out.tolist()[2] == (kept != 3)
    rows = choice.rows
    assert rows["keyed_run"] == choice.race.keyed_seen.sum() <= rows["keyed_grid"] == 3 * 140


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
    cells = [Cell(*of) for of in zip(race.pop("top_n"), race.pop("alpha"))]
    risk = {"max": 0.01, "kept": 0.02}
    raced = Raced(race, 2, None, {"free": 108}, {"free": 120}, risk, alone=9)
    choice = Choice(raced, cells)
    assert choice.max == Cell(0.2, 4.0) and choice.kept is None and choice.risk == risk
    assert list(choice.race[["top_n", "alpha"]].itertuples(index=False)) == [
        (cell.top_n, cell.alpha) for cell in cells
    ]
    assert choice.validation(Cell(0.2, 4.0)) == {
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
    choice = choose(steering, cells, tuning, direction, [collateral])
    assert choice.max == Cell(ONE, 1.0)
    assert choice.kept == (Cell(ONE, 1.0) if direction == "m2g" else None)
