"""Every method on the planted model: it finds what turns the answers, and keeps within its budget."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from memgen.rivals.depths import layers_tried
from memgen.rivals.interventions import Shift
from memgen.rivals.material import BUDGET, Effort
from memgen.rivals.method import Candidate, thinned
from memgen.rivals.roster import METHODS, PAPER
from memgen.terms import DIRECTIONS
from running import ROOT

#: those that see the planted coordinate; a PCA that centres its differences has nothing to see there
FINDS = ("nmd", "caa", "caa_all", "probe_direction", "pca_center")
NULLS = [name for name, method in METHODS.items() if method.kind == "null"]


@pytest.mark.parametrize("name", FINDS)
def test_it_turns_every_answer_to_the_rule_and_keeps_what_should_stay(board, name):
    numbers = board.entry(METHODS[name], "m2g").numbers
    for choice in ("max", "kept"):
        found = numbers[choice]
        assert found["success"] == 1.0 and found["other"] == 0.0, found["label"]
        assert found["validation_success"] == 1.0 and found["gradient_steps"] == 0
    kept = numbers["kept"]
    assert kept["free_accuracy_after"] == kept["free_accuracy_before"] == 1.0
    assert kept["validation_free_after"] == kept["stay"] == 1.0
    # a shift of everything cannot spare what was learned by heart
    assert kept["keyed_accuracy_after"] == 0.0


@pytest.mark.parametrize("name", FINDS)
def test_it_turns_every_answer_to_memory_and_that_ruins_the_free_prompts(board, name):
    """A free prompt looks like one that the rule answers, so both go, and nothing is kept."""
    numbers = board.entry(METHODS[name], "g2m").numbers
    found = numbers["max"]
    assert found["success"] == 1.0 and found["keyed_accuracy_after"] == 1.0
    assert found["free_accuracy_after"] == 0.0
    assert numbers["kept"] is None or numbers["kept"]["success"] == 0.0


@pytest.mark.parametrize("name", [*METHODS])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_candidates_keep_within_the_budget_and_begin_with_the_gentlest(board, name, direction):
    method = METHODS[name]
    if direction not in method.directions or method.lacks(board.material):
        return
    effort = replace(board.material.effort, steps=2, batch=16)  # what is fitted hardly matters here
    material = replace(board.material, effort=effort)
    offered = method.candidates(material, direction)
    candidates = thinned(offered, BUDGET)
    assert 1 <= len(candidates) <= BUDGET and method.name == name
    assert len(offered) <= BUDGET
    strengths = [one.strength for one in candidates]
    assert strengths == sorted(strengths) and min(strengths) >= 0
    assert len({one.label for one in candidates}) == len(candidates)
    for one in candidates:
        if isinstance(one.intervention, Shift):
            assert one.strength == pytest.approx(np.linalg.norm(one.intervention.delta))
    again = method.candidates(material, direction)  # seeded: the same once more
    assert [one.label for one in again] == [one.label for one in offered]


def test_a_smaller_budget_is_spread_over_the_strengths():
    many = [Candidate(str(i), {}, float(i % 7), None) for i in range(40)]
    few = thinned(many, 5)
    assert [one.strength for one in few] == [0.0, 1.0, 3.0, 4.0, 6.0] and few[0].label == "0"
    assert len(thinned(many, 40)) == 40
    same = [one.label for one in thinned([Candidate(str(i), {}, 1.0, None) for i in range(9)], 9)]
    assert same == [str(i) for i in range(9)]  # equals stay in the order they were offered


def test_the_board_offers_no_more_than_the_budget(board):
    few = replace(board.material, effort=Effort(budget=4))
    entry = replace(board, material=few).entry(METHODS["caa"], "m2g")
    assert entry.numbers["candidates"] == 4


def test_random_directions_have_caas_layers_lengths_and_positions(board):
    caa, chance = (
        METHODS[name].candidates(board.material, "m2g") for name in ("caa", "random_directions")
    )
    assert [one.label for one in caa] == [one.label for one in chance]
    assert np.allclose([one.strength for one in caa], [one.strength for one in chance])
    other = METHODS["random_directions"].candidates(board.material, "g2m")
    first, second = chance[0].intervention.delta, other[0].intervention.delta
    assert not np.allclose(first, second) and not np.allclose(first, -second)


def test_untouched_turns_nothing_and_costs_nothing(board):
    for direction in DIRECTIONS:
        numbers = board.entry(METHODS["untouched"], direction).numbers
        assert numbers["candidates"] == 1 and numbers["max"] == numbers["kept"]
        kept = numbers["kept"]
        assert kept["success"] == kept["other"] == kept["kl_free"] == kept["kl_keyed"] == 0.0
        assert kept["stay"] == 1.0
        assert kept["free_accuracy_after"] == kept["free_accuracy_before"]


def test_the_paper_is_in_the_list_and_so_are_nulls():
    assert PAPER in METHODS and {"untouched", "random_directions"} <= set(NULLS)
    assert all(name == method.name for name, method in METHODS.items())
    assert len({method.title for method in METHODS.values()}) == len(METHODS)


def test_layers_are_spread_and_end_with_the_last():
    assert layers_tried(2) == [0, 1] and layers_tried(4) == [0, 1, 2, 3]
    assert layers_tried(12) == [2, 5, 8, 11] and layers_tried(1) == [0]


def test_every_source_is_in_the_bibliography_and_how_it_is_known_is_said():
    known = set(
        re.findall(r"^@\w+\{(\w+),", (ROOT / "book" / "references.bib").read_text("utf8"), re.M)
    )
    assert {method.source for method in METHODS.values() if method.source} <= known
    # what was read somewhere has a source
    assert all(method.source for method in METHODS.values() if method.read_in != "ours")


@pytest.mark.parametrize("name", ["optimised", "optimised_retained"])
def test_a_vector_fitted_by_gradient_turns_every_answer(board, name):
    material = replace(board.material, effort=Effort(steps=24, batch=8))
    entry = replace(board, material=material).entry(METHODS[name], "m2g")
    found = entry.numbers["max"]
    assert found["success"] == 1.0 and found["gradient_steps"] > 0
    assert entry.numbers["candidates"] <= BUDGET
