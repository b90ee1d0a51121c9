"""A row of the table: what is counted, on which prompts, and what is compared with what."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from memgen.rivals.board import OPPOSITE, Board, paired
from memgen.rivals.interventions import Shift
from memgen.rivals.method import Candidate, Method
from memgen.rivals.roster import METHODS
from memgen.rivals.shifts import kept_shifts
from memgen.steering.side_effects import Elsewhere
from memgen.terms import DIRECTIONS


def pushed(*steps: float, name: str = "pushed") -> Method:
    """Coordinate 0 pushed by each of these: +1 makes an answer the rule's, +3 makes free ones wrong, too."""

    def candidates(material, direction):
        deltas = np.zeros((len(steps), 2, 8))
        deltas[:, 1, 0] = steps
        return [
            Candidate(f"{step:g}", {"step": step}, abs(step), Shift(delta, "all"))
            for step, delta in zip(steps, deltas)
        ]

    return Method(name, name, "", "ours", "steering", candidates)


def test_what_is_most_successful_and_what_is_kept_are_told_apart(board: Board):
    """At +2 prompts answered from memory turn (0 to 2) and so free ones stay; at +3.5 all become X."""
    entry = board.entry(pushed(0.65, 3.5), "m2g")
    numbers = entry.numbers
    assert numbers["max"]["label"] == numbers["kept"]["label"] == "0.65"
    harmful = board.entry(pushed(0.1, 2.0), "m2g").numbers  # the rule's own prompts: 1 + 2 is X
    assert harmful["max"]["label"] == "2" and harmful["max"]["success"] == 1.0
    assert harmful["max"]["free_accuracy_after"] == 0.0 and harmful["max"]["stay"] == 0.0
    assert harmful["kept"]["label"] == "0.1" and harmful["kept"]["success"] == 0.0
    none = board.entry(pushed(2.0), "m2g").numbers
    assert none["kept"] is None and none["max"]["success"] == 1.0


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_numbers_are_those_of_lab_06_on_the_same_prompts(board: Board, direction):
    kept = board.entry(METHODS["nmd"], direction).numbers["max"]
    steering, testing = board.material.steering, board.testing
    (cell,) = [
        c
        for c in board.material.cells
        if (c.top_n, c.alpha) == (kept["setting"]["top_n"], kept["setting"]["alpha"])
    ]
    sign = 1 if direction == "m2g" else -1
    rows = testing.turned[direction]
    cost, _ = Elsewhere(steering, testing.free, testing.keyed).side_effects(
        sign * steering.shift(cell), rows
    )
    for name in ("n_free", "n_keyed", "kl_free", "kl_keyed"):
        assert kept[name] == cost[name]
    for name in ("free_accuracy", "keyed_accuracy"):
        assert kept[f"{name}_after"] == cost[f"{name}_after"]
        assert kept[f"{name}_before"] == cost[f"{name}_before"]
    codes = steering.outcomes(sign * steering.shift(cell)[None], rows)[0]
    assert kept["success"] == (codes == (1 if direction == "m2g" else 0)).mean()
    assert kept["n"] == len(rows) and kept["n_keys"] == rows.key.nunique()


def test_stay_is_asked_of_the_prompts_that_show_the_target_already(board: Board):
    found = board.entry(pushed(2.0), "m2g").numbers["max"]
    assert found["n_stay"] == len(board.testing.turned[OPPOSITE["m2g"]]) and found["stay"] == 0.0
    assert board.entry(pushed(1.0), "m2g").numbers["max"]["stay"] == 1.0


def test_one_row_per_answer_and_choice(board: Board):
    entry = board.entry(METHODS["caa"], "m2g")
    rows = entry.answers
    assert list(rows.choice.unique()) == ["max", "kept"] and set(rows.kind) == {"caa"}
    assert len(rows) == 2 * len(board.testing.turned["m2g"])
    assert rows.success.mean() == 1.0 and not rows.other.any() and entry.seconds > 0


def test_the_chosen_candidates_are_kept_and_only_shifts_as_vectors(board: Board):
    entry = board.entry(METHODS["caa"], "m2g")
    assert {name: one.label for name, one in entry.chosen.items()} == {
        name: entry.numbers[name]["label"] for name in ("max", "kept")
    }
    shifts = kept_shifts([entry])
    assert list(shifts) == ["caa.m2g.max", "caa.m2g.kept"]
    for choice, candidate in entry.chosen.items():
        np.testing.assert_allclose(
            shifts[f"caa.m2g.{choice}"], candidate.intervention.delta, rtol=1e-6
        )
    other = replace(entry, chosen={"max": replace(entry.chosen["max"], intervention=object())})
    assert kept_shifts([other]) == {}


def test_entries_leave_out_what_does_not_apply_and_directions_that_a_method_has_not(board: Board):
    one_way = replace(pushed(1.0, name="one way"), kind="editing", directions=("m2g",))
    elsewhere = replace(pushed(1.0), lacks=lambda material: "it needs numbers.")
    found = board.entries([one_way, elsewhere])
    assert [(one.method.name, one.direction) for one in found] == [("one way", "m2g")]
    empty = replace(one_way, candidates=lambda material, direction: [])
    with pytest.raises(ValueError, match="one way offers no candidate for m2g"):
        board.entry(empty, "m2g")


def test_a_paired_difference_is_on_the_same_prompts_and_over_keys():
    keys = np.repeat([f"k{i}" for i in range(12)], 10)
    rng = np.random.default_rng(0)
    paper = rng.random(120) < 0.4

    def rows(kind, success, choice="kept", of=keys):
        return pd.DataFrame({"kind": kind, "key": of, "success": success, "choice": choice})

    better = paper | (rng.random(120) < 0.5)
    table = pd.concat(
        [
            rows("nmd", paper),
            rows("same", paper),
            rows("better", better),
            rows("better", paper, "max"),
            rows("other prompts", paper, of=keys[::-1]),
            rows("fewer", paper[:50], of=keys[:50]),
        ]
    )
    found = paired(table, "nmd", "kept", seed=0)
    assert set(found) == {"same", "better"}
    assert found["same"]["value"] == 0 and found["same"]["interval"] == [0, 0]
    assert found["better"]["value"] == pytest.approx(better.mean() - paper.mean())
    assert found["better"]["interval"][0] > 0 and found["better"]["n_keys"] == 12
    assert paired(table, "nmd", "max", seed=0) == {}  # the reference has no such choice
