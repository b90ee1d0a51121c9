"""Claims on rivals: planted results of labs 13 and 14 give every verdict, and none where one is missing."""

from __future__ import annotations

from typing import get_args

import pandas as pd
import pytest

from memgen.claims.catalogue.rivals import RIVALS
from memgen.claims.evidence import Evidence
from memgen.claims.ledger import judge
from memgen.claims.quantities.rivals import (
    BLACK_BOX,
    BOARD,
    CAA,
    CORRELATES,
    DETECTION,
    KFAC,
    OPTIMISED,
    PAPER,
    PROBE,
    RANDOM,
)
from memgen.config.rivals import MethodName
from memgen.rivals.detectors import roster as detectors
from memgen.rivals.roster import METHODS
from memgen.rivals.roster import PAPER as PAPER_ROW
from memgen.stages import LABS
from memgen.terms import CONTRADICTED, DIRECTIONS, OPEN, REVERSED, SUPPORTED
from planted_board import board, correlates, detection, row

RIVAL = {"caa": CAA, "random": RANDOM, "optimised": OPTIMISED}
POINTING = ("control_apart", "control_far_out")  # of lab 15
ON_BOARD = [(d, claim) for d in DIRECTIONS for claim in RIVAL]


def evidence(stage: str, *seeds: dict, task: str = "inference") -> Evidence:
    """One task with these results of one lab, one per seed; None: the lab was not run."""
    by_seed = {seed: {stage: found} if found else {} for seed, found in enumerate(seeds)}
    return Evidence({task: by_seed}, *[pd.DataFrame()] * 4, later={})


def judged(claim: str, given: Evidence) -> dict:
    (known,) = [one for one in RIVALS if one.id == claim]
    return judge(known, given)


def test_the_names_are_those_of_the_rosters():
    assert {PAPER, CAA, RANDOM, OPTIMISED, KFAC} <= set(METHODS) & set(get_args(MethodName))
    assert (PAPER, PROBE, BLACK_BOX) == (PAPER_ROW, detectors.PROBE, detectors.BLACK_BOX)
    assert METHODS[KFAC].directions == ("m2g",)
    for claim in RIVALS:
        own = {"control_apart": (0, 0.1), "control_far_out": (0.5, 0.05)}.get(claim.id, (0, 0.05))
        assert claim.page in LABS and (claim.threshold, claim.margin) == own


#: of three seeds: success of the rival where the paper's neurons have .5
PLANTED = [
    ((0.2, 0.2, 0.25), SUPPORTED),
    ((0.5, 0.49, 0.51), CONTRADICTED),
    ((0.8, 0.8, 0.75), REVERSED),
    ((0.1, 0.5, 0.8), OPEN),
]


@pytest.mark.parametrize("rates, verdict", PLANTED)
@pytest.mark.parametrize("direction, rival", ON_BOARD)
def test_a_planted_difference_gives_its_verdict(direction, rival, rates, verdict):
    seeds = [board(**{RIVAL[rival]: rate}) for rate in rates]
    other = {"m2g": "g2m", "g2m": "m2g"}[direction]
    for seed in seeds:  # the other direction says something else
        seed[other] = board(**{RIVAL[rival]: 0.9 if verdict == SUPPORTED else 0.1})[other]
    found = judged(f"board_{direction}.{rival}", evidence(BOARD, *seeds))
    case = found["cases"]["inference"]
    assert case["verdict"] == verdict
    assert case["effect"] == pytest.approx(0.5 - sum(rates) / 3)
    assert (case["n"], case["n_keys"], case["n_seeds"]) == (300, 36, 3)


@pytest.mark.parametrize("rates, verdict", PLANTED)
def test_an_edit_is_held_against_the_papers_neurons_on_matched_tasks_alone(rates, verdict):
    seeds = [board(nmd=rate, kfac=0.5) for rate in rates]
    found = judged("edit_matched", evidence(BOARD, *seeds, task="cipher-matched"))
    assert found["verdict"] == verdict
    for task in ("inference", "cipher-tagged"):
        assert judged("edit_matched", evidence(BOARD, *seeds, task=task))["cases"] == {}


def test_a_method_without_a_candidate_within_the_limit_turns_none():
    def effect(**rates) -> float:
        return judged("board_m2g.caa", evidence(BOARD, *[board(**rates)] * 3))["effect"]

    assert effect(caa=None) == 0.5 and effect(nmd=None) == -0.3
    assert effect(nmd=None, caa=None) == 0


NO_ROW = {"candidates": 0, "max": None, "kept": None}  # as of a method that does not apply


@pytest.mark.parametrize("rows", [NO_ROW, row(0.4, n=0), None])
def test_a_method_that_was_not_tried_is_open_with_a_sentence(rows):
    seeds = [board({KFAC: rows, CAA: rows}) for _ in range(3)]
    given = evidence(BOARD, *seeds, task="cipher-matched")
    for claim in ("edit_matched", "board_m2g.caa", "board_g2m.caa"):
        found = judged(claim, given)
        assert (found["verdict"], found["cases"]) == (OPEN, {})
        assert found["evidence"] == "This run holds nothing to test it on."
    assert judged("board_m2g.random", given)["verdict"] == SUPPORTED


@pytest.mark.parametrize("claim", [claim.id for claim in RIVALS])
def test_without_the_labs_every_claim_is_open_and_a_seed_without_them_is_left_out(claim):
    places = dict.fromkeys(POINTING, (CORRELATES, correlates())) | {
        "black_box": (DETECTION, detection())
    }
    task, (stage, lab) = "cipher-matched", places.get(claim, (BOARD, board()))
    assert judged(claim, evidence(stage, None, None, task=task))["cases"] == {}
    found = judged(claim, evidence(stage, lab, None, lab, task=task))
    assert found["cases"][task]["n_seeds"] == 2
    alone = judged(claim, evidence(stage, lab, task=task))
    assert alone["verdict"] == OPEN and alone["cases"][task]["n_seeds"] == 1


@pytest.mark.parametrize(
    "boxes, probes, verdict",
    [
        ((0.9, 0.92, 0.88), (0.7, 0.7, 0.7), SUPPORTED),
        ((0.7, 0.71, 0.69), (0.7, 0.7, 0.7), CONTRADICTED),
        ((0.55, 0.56, 0.54), (0.9, 0.9, 0.9), REVERSED),
        ((0.5, 0.7, 0.9), (0.7, 0.7, 0.7), OPEN),
        ((0.5, 0.51, 0.5), (0.2, 0.2, 0.2), CONTRADICTED),  # a probe below chance is not beaten
    ],
)
def test_the_black_box_is_held_against_the_probe(boxes, probes, verdict):
    seeds = [detection(*pair) for pair in zip(boxes, probes)]
    assert judged("black_box", evidence(DETECTION, *seeds))["verdict"] == verdict


def test_a_detector_without_an_area_is_left_out():
    found = judged("black_box", evidence(DETECTION, detection(box=None), detection(probe=None)))
    assert found["cases"] == {} and found["verdict"] == OPEN


#: of three seeds: cosine of the held vector with the mean difference (.9 with its refit); states far out
ANGLES = [
    ((0.1, 0.15, 0.05), SUPPORTED),
    ((0.85, 0.9, -0.88), CONTRADICTED),
    ((0.0, 0.5, 0.99), OPEN),
]
OUT = [
    ((0.95, 0.9, 1.0), SUPPORTED),
    ((0.5, 0.49, 0.51), CONTRADICTED),
    ((0.1, 0.12, 0.08), REVERSED),
    ((0.2, 0.9, 0.6), OPEN),
]


@pytest.mark.parametrize("cosines, verdict", ANGLES)
def test_a_held_vector_is_held_against_its_own_refit(cosines, verdict):
    seeds = [correlates(difference=cosine) for cosine in cosines]
    found = judged("control_apart", evidence(CORRELATES, *seeds))
    assert found["verdict"] == verdict
    assert found["effect"] == pytest.approx(0.9 - sum(map(abs, cosines)) / 3)


def test_a_vector_that_does_not_agree_with_itself_is_no_finding():
    seeds = [correlates(refit=0.1, difference=cosine) for cosine in (0.1, 0.09, 0.11)]
    assert judged("control_apart", evidence(CORRELATES, *seeds))["verdict"] == CONTRADICTED


@pytest.mark.parametrize("shares, verdict", OUT)
def test_states_far_out_are_counted_over_both_directions(shares, verdict):
    seeds = [correlates(beyond=share) for share in shares]
    for seed in seeds:  # one direction more, the other less: the mean is what counts
        for direction, by in zip(DIRECTIONS, (0.02, -0.02)):
            seed[direction] = {"methods": {"held": {"n": 50, "n_keys": 5}}}
            seed[direction]["methods"]["held"]["beyond"] = shares[seeds.index(seed)] + by
    found = judged("control_far_out", evidence(CORRELATES, *seeds))
    assert found["verdict"] == verdict and found["cases"]["inference"]["n"] == 150
