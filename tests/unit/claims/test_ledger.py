"""The ledger: verdicts follow from planted numbers, each claim hangs on its own, and shuffled
labels leave none standing.
"""

from __future__ import annotations

import copy
import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from computing import planted_lab, run_cell
from memgen.claims import ledger
from memgen.claims.catalogue import CLAIMS, GROUPS
from memgen.claims.evidence import Evidence, behaviors_by_key, outcomes_by_key, transfers_by_key
from memgen.claims.ledger import Claim, judge, judge_all, over_cases, verdict_on
from memgen.claims.quantities.behaviors import GATE, in_gate
from memgen.claims.quantities.prediction import CHANCE
from memgen.claims.quantities.steering import CONTROL_FAMILIES, STEERED
from memgen.labs.synthesis import overview
from memgen.labs.transfer import Source, apply_sources
from memgen.neurons.nulls import SignFlips
from memgen.stats.over_seeds import Effect
from memgen.steering.cells import Cell
from memgen.steering.steering import Steering
from memgen.tasks.families import one_format
from memgen.terms import CONTRADICTED, DIRECTIONS, OPEN, REVERSED, SUPPORTED
from planted import ManyKeys
from planted_board import board, correlates, detection, multiverse

TASKS = ("arithmetic-tagged", "arithmetic-matched", "inference")
SEEDS, KEYS = (0, 1, 2), [f"key{i}" for i in range(8)]
TRACKS = ("scratch", "lora")  # seeds with keys of their own, and seeds that share them


def table(**columns) -> pd.DataFrame:
    """One row a task, seed and key, with the same values in all."""
    return pd.DataFrame(
        [
            {"task": task, "seed": seed, "key": key}
            for task in TASKS
            for seed in SEEDS
            for key in KEYS
        ]
    ).assign(**columns)


def behaviors(**other: int) -> pd.DataFrame:
    """Of 12 prompts a key 5 from memory, and by the rule 6, or what `other` says of a task."""
    rows = table(memory=5, n=12)
    rule = {task: other.get(task.split("-")[0], 6) for task in TASKS}
    return rows.assign(rule=rows.task.map(rule))


def steered(task: str, direction: str) -> int:
    """Of 20 prompts a key change sides: less where both answers look alike, and in g2m."""
    return 10 if direction == "g2m" else 12 if one_format(task) else 15


def outcomes(*changes: tuple, control: int = 1) -> pd.DataFrame:
    """Steering, and `control` of 20 prompts under every control; then, one after the other, rows
    `(task or None, direction or None, kinds, wins or None)` are set (None: all; as steering).
    """
    kinds = [STEERED, *(kind for family in CONTROL_FAMILIES.values() for kind in family)]
    found = pd.concat(
        [table(direction=d, kind=kind, wins=control, n=20) for d in DIRECTIONS for kind in kinds],
        ignore_index=True,
    )
    for task, direction, which, wins in ((None, None, (STEERED,), None), *changes):
        rows = found.kind.isin(which)
        rows &= (found.task == task) if task else True
        rows &= (found.direction == direction) if direction else True
        there = zip(found.task[rows], found.direction[rows], strict=True)
        found.loc[rows, "wins"] = [steered(*one) for one in there] if wins is None else wins
    return found.assign(unlimited=found.wins)


def transfers(retrain: int = 8, stranger: int = 2, addition: int = 8, inference: int = 6):
    """Neurons of retrains, strangers and other tasks; of 12 prompts a key random ones turn 2."""
    sources = (
        ("seed 9", "retrain", True, retrain),
        ("seed 9", "retrain", False, stranger),
        ("arithmetic-tagged", "task", True, addition),
        ("inference", "task", True, inference),
    )
    about = {"own": False, "n": 12, "control_wins": 4, "control_n": 24}
    return pd.concat(
        [
            table(source=source, direction=d, kind=kind, shared=shared, wins=wins, **about)
            for d in DIRECTIONS
            for source, kind, shared, wins in sources
        ],
        ignore_index=True,
    )


BASELINES = ("chosen_baseline", "nearest_setting", "base_probe")


def scores(probe: int = 9, **auc: int) -> pd.DataFrame:
    """Ten prompts of either label a key. `auc`: of a column, in tenths (5: it knows nothing)."""
    auc = {"probe": probe, **dict.fromkeys(BASELINES, 5), **auc}
    memory = [table(label=0, **dict.fromkeys(auc, 0.5)) for _ in range(10)]
    rule = [
        table(label=1, **{name: float(i < tenths) for name, tenths in auc.items()})
        for i in range(10)
    ]
    return pd.concat([*memory, *rule], ignore_index=True)


def instructed(success: float) -> dict:
    """What the instruction does; its training alone turns a tenth, and steering 80 %."""
    rates = {"instruction": success, "none": 0.1, "steering": 0.8}
    return {d: {name: {"success": x, "n": 50} for name, x in rates.items()} for d in DIRECTIONS}


def cell(**changes) -> dict:
    """A direction of lab 06."""
    return {
        "n": 200,
        "kept_exists": True,
        "other": 0.02,
        "top_n": 0.05,
        "free_accuracy_before": 0.97,
        "free_accuracy_after": 0.96,
        "keyed_accuracy_before": 0.97,
        "keyed_accuracy_after": 0.96,
    } | changes


def lens(gain: float, unread: bool = True) -> dict:
    """Of lab 09, in the layer before the answer is read; `unread`: the lens is at chance there."""
    return {"gain_before": gain, "n": 100, "before_answer": unread}


#: AUC of the probe by layer: the last one adds more in addition than in inference
LAYERS = {"arithmetic": [0.6, 0.6, 0.9], "inference": [0.4, 0.4, 0.5]}


def results(task: str = "", **changes) -> dict:
    """Every run of every task; `changes`: `training__other_rate=0.3`, on one task or on all."""

    def stages(name: str) -> dict:
        family = name.split("-")[0]
        return {
            "01_dataset_design": {"contrast_on": "none" if family == "inference" else "keys"},
            "02_training": {
                "memory_rate": 0.4,
                "rule_rate": 0.5,
                "other_rate": 0.1,
                "free_accuracy": 0.97,
            },
            "04_differentiation": {
                "significant_share": [0.1, 0.6],
                "null_significant_share": [0.0, 0.02],
                "base_null": {"significant_share": [0.0, 0.02]},
                "nmd_split_half": [0.02, 0.3],
                "max_abs_rho": [0.2, 0.8],
                "n_pairs": 50,
                "n_neurons": 512,
                "base": {"nmd_split_half": {"on": [0.1, 0.2], "off": [0.1, 0.15]}, "n_pairs": 50},
            },
            "05_prediction": {"auc": LAYERS[family], "n_test": 100},
            "06_intervention": {d: cell() for d in DIRECTIONS},
            "09_confounds": {"lens": lens(0.2)},
            "11_open_points": {"instruction": instructed(0.4)},
            "13_scoreboard": board(),
            "14_detection": detection(),
            "15_correlates": correlates(),
            "16_multiverse": multiverse(),
        }

    found = {name: {seed: stages(name) for seed in SEEDS} for name in TASKS}
    for key, value in changes.items():
        part, name = key.split("__")
        for one in [task] if task else TASKS:
            for runs in found[one].values():
                stage = next(stage for stage in runs if stage.endswith(part))
                runs[stage][name] = value
    return found


def evidence(track: str = "scratch", **changes) -> Evidence:
    """Evidence in which every claim holds, save for what is changed."""
    parts = {
        "results": results(),
        "behaviors": behaviors(),
        "scores": scores(),
        "outcomes": outcomes(),
        "transfers": transfers(),
        "later": dict.fromkeys(TASKS, ([0.8, 0.9, 0.85], 50)),
    }
    return Evidence(**parts | changes, track=track)


def judged(given: Evidence, *only: str) -> dict[str, dict]:
    """The judged claims by id; `only`: these."""
    wanted = [claim for claim in CLAIMS if not only or claim.id in only]
    return {claim.id: judge(claim, given) for claim in wanted}


def verdicts(given: Evidence) -> dict[str, str]:
    """Of the claims that can be tested on this track."""
    return {name: claim["verdict"] for name, claim in judged(given).items() if claim["cases"]}


ON_ONE_BASE = {"across_tasks", "addition_travels"}
#: needs more tasks than are planted here: tests/unit/claims/test_multiverse.py
ON_MORE_TASKS = {"forecast"}
HERE = [claim.id for claim in CLAIMS if claim.id not in ON_MORE_TASKS]


@pytest.mark.parametrize("track", TRACKS)
def test_where_everything_holds_everything_is_supported(track):
    untested = {"scratch": ON_ONE_BASE, "lora": {"across_formats"}}[track] | ON_MORE_TASKS
    assert verdicts(evidence(track)) == {
        claim.id: SUPPORTED for claim in CLAIMS if claim.id not in untested
    }


# -- each claim hangs on its own numbers -----------------------------------------------------------
@dataclass(frozen=True)
class Spoiled:
    """What is changed so that a claim falls, and which other claims rest on the same numbers."""

    changes: dict
    touched: frozenset = field(default_factory=frozenset)


def spoiled(touched: tuple[str, ...] = (), **changes) -> Spoiled:
    return Spoiled(changes, frozenset(touched))


def beaten(direction: str, family: str) -> Spoiled:
    """A family of controls does as much as steering."""
    touched = ()
    if family == "random":
        touched = ("random_negligible", *(["same_format"] if direction == "m2g" else []))
    change = (None, direction, CONTROL_FAMILIES[family], None)
    return spoiled(touched, outcomes=outcomes(change))


def costly(**changes) -> Spoiled:
    """Both directions of lab 06 with another number."""
    found = results()
    for runs in found.values():
        for stages in runs.values():
            stages["06_intervention"] = {d: cell(**changes) for d in DIRECTIONS}
    return spoiled(results=found)


def on_board(direction: str, **rates: float) -> Spoiled:
    """In one direction of the scoreboard other rates."""
    changes = {f"scoreboard__{direction}": board(**rates)[direction]}
    return spoiled(results=results(**changes))


def pointing(**changes: float) -> Spoiled:
    """Both directions of lab 15 with another number."""
    found = correlates(**changes)
    return spoiled(results=results(**{f"correlates__{d}": found[d] for d in DIRECTIONS}))


def layers(arithmetic: list[float], inference: list[float]) -> dict:
    found = results(prediction__auc=arithmetic)
    for stages in found["inference"].values():
        stages["05_prediction"]["auc"] = inference
    return found


BEYOND = ("beyond_words", "beyond_setting", "beyond_base")
ALIKE = [task for task in TASKS if one_format(task)]
FALLING = {
    "emerges": spoiled(behaviors=behaviors(inference=2)),
    "taught": spoiled(behaviors=behaviors(arithmetic=2)),
    "differ": spoiled(results=results(differentiation__null_significant_share=[0.1, 0.6])),
    "differ_base": spoiled(
        results=results(differentiation__base_null={"significant_share": [0.1, 0.6]})
    ),
    "early": spoiled(results=results(differentiation__nmd_split_half=[0.2, 0.3])),
    "deeper": spoiled(("early",), results=results(differentiation__nmd_split_half=[0.3, 0.3])),
    "sharper": spoiled(results=results(differentiation__max_abs_rho=[0.8, 0.8])),
    "later": spoiled(later=dict.fromkeys(TASKS, ([0.5, 0.52, 0.51], 50))),
    "base": spoiled(
        results=results(
            differentiation__base={
                "nmd_split_half": {"on": [0.1, 0.2], "off": [0.1, 0.0]},
                "n_pairs": 50,
            }
        )
    ),
    "predictable": spoiled(BEYOND, scores=scores(probe=5)),
    "deeper_probes": spoiled(results=layers([0.9, 0.3, 0.9], [0.5, 0.5, 0.5])),
    "last_layer": spoiled(results=layers([0.6, 0.8, 0.8], [0.2, 0.4, 0.4])),
    "last_layer_only": spoiled(results=layers([0.6, 0.6, 0.9], [0.6, 0.6, 0.7])),
    **{
        name: spoiled(scores=scores(**{column: 9}))
        for name, column in zip(BEYOND, BASELINES, strict=True)
    },
    "before_answer": spoiled(results=results(confounds__lens=lens(0.0))),
    **{
        f"steer_{direction}.{family}": beaten(direction, family)
        for direction in DIRECTIONS
        for family in CONTROL_FAMILIES
    },
    "random_negligible": spoiled(outcomes=outcomes((None, None, CONTROL_FAMILIES["random"], 6))),
    "few_neurons": costly(top_n=0.3),
    "other_rare": costly(other=0.3),
    "spares_free": costly(free_accuracy_after=0.8),
    "spares_keyed": costly(keyed_accuracy_after=0.8),
    "asymmetry": spoiled(
        outcomes=outcomes(
            *[(task, "g2m", (STEERED,), steered(task, "m2g")) for task in TASKS],
        )
    ),
    "same_format": spoiled(
        ("steer_m2g.random", "random_negligible"),
        outcomes=outcomes(*[(task, "m2g", CONTROL_FAMILIES["random"], None) for task in ALIKE]),
    ),
    "format": spoiled(outcomes=outcomes(("arithmetic-matched", "m2g", (STEERED,), 15))),
    "instruction": spoiled(results=results(open_points__instruction=instructed(0.9))),
    "retrain": spoiled(transfers=transfers(retrain=2)),
    "stranger": spoiled(transfers=transfers(stranger=6)),
    "across_formats": spoiled(transfers=transfers(addition=2, inference=2)),
    "across_tasks": spoiled(("addition_travels",), transfers=transfers(addition=2, inference=2)),
    "addition_travels": spoiled(transfers=transfers(inference=8)),
    **{
        f"board_{direction}.{name}": on_board(direction, **{method: 0.5})
        for direction in DIRECTIONS
        for name, method in (
            ("caa", "caa"),
            ("random", "random_directions"),
            ("optimised", "optimised_retained"),
        )
    },
    "edit_matched": on_board("m2g", kfac=0.5),
    "black_box": spoiled(results=results(detection__detectors=detection(box=0.7)["detectors"])),
    "control_apart": pointing(difference=-0.9),
    "control_far_out": pointing(beyond=0.5),
    "specifications": spoiled(results=results(multiverse__curves=multiverse(share=0.5)["curves"])),
    "stable_neurons": spoiled(
        results=results(multiverse__stability=multiverse(above=0.1)["stability"])
    ),
}


@pytest.mark.parametrize("claim", HERE)
def test_a_spoiled_number_contradicts_its_claim_and_no_other(claim):
    fall = FALLING[claim]
    found = verdicts(evidence("lora" if claim in ON_ONE_BASE else "scratch", **fall.changes))
    assert found.pop(claim) == CONTRADICTED
    others = {name: verdict for name, verdict in found.items() if name not in fall.touched}
    assert set(others.values()) == {SUPPORTED}, others


def test_the_opposite_of_a_claim_is_said_to_be_so():
    for changes, claim in (
        ({"scores": scores(probe=3)}, "predictable"),
        ({"outcomes": outcomes((None, "g2m", CONTROL_FAMILIES["forbid"], 20))}, "steer_g2m.forbid"),
        ({"transfers": transfers(retrain=0)}, "retrain"),
    ):
        assert judged(evidence(**changes), claim)[claim]["verdict"] == REVERSED, claim


# -- from an effect to a verdict -------------------------------------------------------------------
def claimed(threshold: float, margin: float, above: bool = True) -> Claim:
    known = CLAIMS[0]
    return replace(known, threshold=threshold, margin=margin, above=above)


def effect(low: float, high: float) -> Effect:
    return Effect((low + high) / 2, low, high, 10, 10, 3)


@pytest.mark.parametrize(
    "low, high, wanted",
    [
        (0.56, 0.70, SUPPORTED),
        (0.51, 0.60, SUPPORTED),  # an effect that matters is in it
        (0.51, 0.54, CONTRADICTED),  # an effect there is, but none that matters
        (0.48, 0.52, CONTRADICTED),  # a tight null
        (0.46, 0.49, CONTRADICTED),  # a small effect the other way
        (0.30, 0.44, REVERSED),
        (0.31, 0.59, OPEN),  # a wide null
        (0.50, 0.60, OPEN),  # it touches the threshold
        (math.nan, math.nan, OPEN),
    ],
)
def test_an_interval_is_held_against_threshold_and_margin(low, high, wanted):
    assert claimed(0.5, 0.05).verdict(effect(low, high)) == wanted
    below = claimed(0.5, 0.05, above=False)  # the same in a mirror
    assert below.verdict(effect(1 - high, 1 - low)) == wanted


@pytest.mark.parametrize(
    "low, high, wanted",
    [(-0.1, 0.09, SUPPORTED), (0.11, 0.3, CONTRADICTED), (0.05, 0.2, OPEN), (0.1, 0.1, OPEN)],
)
def test_a_limit_has_no_margin_and_cannot_be_reversed(low, high, wanted):
    assert claimed(0.1, 0.0, above=False).verdict(effect(low, high)) == wanted


def test_every_claim_about_a_difference_says_which_would_matter():
    """A claim without a margin is a limit: on both sides of it there are values that one could want."""
    limits = {claim.id for claim in CLAIMS if not claim.margin}
    assert limits == {"emerges", "taught", "last_layer_only"} | {
        claim.id for claim in CLAIMS if not claim.margin and claim.threshold
    }
    assert {claim.threshold for claim in CLAIMS if claim.margin} == {0.0, CHANCE}


# -- models of one base ------------------------------------------------------------------------
def cells(*pairs: tuple[str, str]) -> pd.DataFrame:
    """Of lab 07: `(source, target)` models of one task, each cell with two keys of ten prompts."""
    counts = [
        {"key": key, "wins": wins, "n": 10, "control_wins": 1, "control_n": 10}
        for key, wins in (("a", 8), ("b", 6))
    ]
    return pd.DataFrame(
        [
            {
                "source": source,
                "target": target,
                "direction": "m2g",
                "kind": "retrain",
                "shared_base": source[:6] == target[:6],
                "seed": int(target[5]),
                "by_key": counts,
            }
            for source, target in pairs
        ]
    )


def test_retrains_of_a_seed_are_one_base():
    again = "seed 0, retrain 1"
    one = transfers_by_key(cells(("seed 0", again), (again, "seed 0"))).assign(task="inference")
    case = judged(evidence(transfers=one), "retrain")["retrain"]["cases"]["inference"]
    assert (case["n_seeds"], case["n_keys"], case["n"]) == (1, 2, 40)
    assert case["effect"] == pytest.approx(0.6)
    assert case["interval"] == [None, None] and case["verdict"] == OPEN
    models = ("seed 0", again, "seed 1")
    strangers = transfers_by_key(
        cells(*[(a, b) for a in models for b in models if a[:6] != b[:6]])
    ).assign(task="inference")
    case = judged(evidence(transfers=strangers), "stranger")["stranger"]["cases"]["inference"]
    assert (case["n_seeds"], case["n_keys"], case["n"]) == (2, 4, 80)


# -- a test that finds nothing -------------------------------------------------------------------
FOUND = ("differ", "differ_base")


def found_shares(trained: list[float], null: list[float]) -> Evidence:
    """By seed the share of neurons that the test finds in the model, and in both its nulls."""
    given = results()
    for runs in given.values():
        for seed, one, other in zip(SEEDS, trained, null, strict=True):
            runs[seed]["04_differentiation"] |= {
                "significant_share": [one, one],
                "null_significant_share": [other, other],
                "base_null": {"significant_share": [other, other]},
            }
    return evidence(results=given)


@pytest.mark.parametrize(
    "trained, null, wanted",
    [
        ([0.0] * 3, [0.0] * 3, OPEN),  # no discovery is no proof
        ([0.01, 0.02, 0.01], [0.0] * 3, OPEN),  # nor are a few
        ([0.5, 0.52, 0.0], [0.0] * 3, OPEN),
        ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5], CONTRADICTED),  # it can find many, and no more of them
        ([0.1, 0.1, 0.11], [0.5, 0.5, 0.5], REVERSED),
        ([0.1, 0.1, 0.0], [0.5, 0.5, 0.0], OPEN),
        ([0.5, 0.52, 0.51], [0.0, 0.01, 0.0], SUPPORTED),
    ],
)
def test_a_test_that_finds_nothing_contradicts_nothing(trained, null, wanted):
    found = judged(found_shares(trained, null), *FOUND)
    assert [claim["verdict"] for claim in found.values()] == [wanted] * 2


def test_a_quiet_seed_counts_for_a_claim_as_nothing_and_against_it_not_at_all():
    (case,) = {
        json.dumps(claim["cases"]["inference"])
        for claim in judged(found_shares([0.0] * 3, [0.0] * 3), *FOUND).values()
    }
    silent = json.loads(case)
    assert silent["effect"] == 0 and silent["interval"] == [None, None] and silent["n_seeds"] == 3
    assert silent["detectable"] is None  # that it could have shown nothing is not known
    some = judged(found_shares([0.5, 0.6, 0.0], [0.0] * 3), "differ")["differ"]["cases"][
        "inference"
    ]
    assert some["effect"] == pytest.approx(1.1 / 3) and some["interval"][1] == 1.0
    assert some["interval"][0] < 0


def test_neurons_that_differ_too_little_to_be_found_are_not_ruled_out():
    """Planted: half of the neurons differ, by a third of their spread, in pairs of eight keys."""
    rng, keys = np.random.default_rng(0), np.repeat(np.arange(8), 2)
    shares = []
    for _ in SEEDS:
        differences = rng.normal(0, 1, (16, 2, 64))
        differences[..., :32] += 1 / 3
        shares.append(float(SignFlips(500, 0.05, 0).significant_share(differences, keys).mean()))
    assert max(shares) < 0.05  # though the truth is one half
    found = judged(found_shares(shares, [0.0] * 3), *FOUND)
    assert {claim["verdict"] for claim in found.values()} == {OPEN}


def test_seeds_that_agree_to_the_last_digit_show_how_coarse_a_number_is():
    alike = results(prediction__auc=[0.9, 0.9, 0.9], prediction__n_test=20)
    claim = judged(evidence(results=alike), "deeper_probes")["deeper_probes"]["cases"]["inference"]
    assert claim["effect"] == 0 and claim["interval"][1] > 0.05 and claim["verdict"] == OPEN


# -- over tasks ------------------------------------------------------------------------------------
def test_verdicts_over_cases_and_on_one():
    assert over_cases([SUPPORTED, SUPPORTED]) == SUPPORTED and over_cases([]) == OPEN
    assert over_cases([CONTRADICTED] * 3) == CONTRADICTED and over_cases([REVERSED]) == REVERSED
    assert over_cases([SUPPORTED, OPEN]) == over_cases([SUPPORTED, CONTRADICTED]) == OPEN
    claims = judge_all(evidence(), GROUPS)
    assert verdict_on(claims, "format", "arithmetic") == SUPPORTED
    assert verdict_on(claims, "format", "cipher") is None


def test_tasks_that_differ_leave_a_claim_open_and_the_hardest_is_shown():
    random = CONTROL_FAMILIES["random"]
    given = outcomes(("arithmetic-matched", "m2g", random, None))
    claim = judged(evidence(outcomes=given), "same_format")["same_format"]
    cases = claim["cases"]
    assert set(cases) == {"arithmetic-matched", "inference"}
    assert cases["inference"]["verdict"] == SUPPORTED and claim["verdict"] == OPEN
    hardest = cases["arithmetic-matched"]
    assert hardest["verdict"] == CONTRADICTED
    assert (claim["effect"], claim["interval"], claim["n"]) == (
        hardest["effect"],
        hardest["interval"],
        hardest["n"],
    )


def test_the_hardest_task_of_a_limit_is_the_one_above_all_others():
    found = results("inference", intervention__m2g=cell(top_n=0.2))
    claim = judged(evidence(results=found), "few_neurons")["few_neurons"]
    assert claim["effect"] == claim["cases"]["inference"]["effect"] == pytest.approx(0.125)


def test_seeds_that_differ_leave_a_task_open():
    open_ = results()
    for seed, share in zip(SEEDS, (0.0, 0.9, 0.3), strict=True):
        open_["inference"][seed]["04_differentiation"]["significant_share"] = [0.0, share]
    claim = judged(evidence(results=open_), "differ")["differ"]
    assert claim["cases"]["inference"]["verdict"] == OPEN == claim["verdict"]
    assert claim["cases"]["arithmetic-tagged"]["verdict"] == SUPPORTED


def test_each_half_of_a_claim_about_two_tasks_can_fail_alone():
    half = {"addition": ([0.6, 0.6, 0.5], LAYERS["inference"])}
    half["inference"] = (LAYERS["arithmetic"], [0.4, 0.4, 0.9])
    for name, auc in half.items():
        claim = judged(evidence(results=layers(*auc)), "last_layer_only")["last_layer_only"]
        assert claim["verdict"] == CONTRADICTED, name
    assert judged(evidence(), "last_layer_only")["last_layer_only"]["effect"] == pytest.approx(0.05)


def test_a_seed_whose_lens_reads_the_answer_is_no_test_of_what_comes_before_it():
    given = results(confounds__lens=lens(0.2))
    read = {"inference": SEEDS, "arithmetic-tagged": SEEDS[1:], "arithmetic-matched": SEEDS[2:]}
    for task, seeds in read.items():
        for seed in seeds:
            given[task][seed]["09_confounds"]["lens"] = lens(0.9, unread=False)
    cases = judged(evidence(results=given), "before_answer")["before_answer"]["cases"]
    assert set(cases) == {"arithmetic-tagged", "arithmetic-matched"}
    assert {case["effect"] for case in cases.values()} == {0.2}
    assert cases["arithmetic-tagged"]["verdict"] == OPEN  # one seed is left
    assert cases["arithmetic-matched"]["n"] == 200
    assert cases["arithmetic-matched"]["verdict"] == SUPPORTED


@pytest.mark.parametrize("name", GATE)
def test_each_part_of_the_gate_counts_and_so_does_every_seed(name):
    changes = {
        "memory_rate": {"behaviors": table(memory=2, rule=9, n=12)},
        "rule_rate": {"behaviors": table(memory=9, rule=2, n=12)},
        "other_rate": {"behaviors": table(memory=4, rule=4, n=12)},
        "free_accuracy": {"results": results(training__free_accuracy=0.85)},
    }[name]
    found = judged(evidence(**changes), "emerges", "taught")
    assert [claim["verdict"] for claim in found.values()] == [CONTRADICTED] * 2
    some = results()
    some["inference"][1]["02_training"]["free_accuracy"] = 0.85
    assert judged(evidence(results=some), "emerges")["emerges"]["verdict"] == OPEN


def test_one_model_is_in_the_gate_or_not():
    good = results()["inference"][0]["02_training"]
    assert in_gate(good)
    for name, (low, high) in GATE.items():
        beyond = high + 0.01 if name == "other_rate" else low - 0.01
        assert not in_gate(good | {name: beyond}), name


def test_who_was_taught_the_rule_is_said_by_the_data_set():
    names = ("emerges", "taught")
    found = judged(evidence(), *names)
    assert set(found["emerges"]["cases"]) == {"inference"}
    assert set(found["taught"]["cases"]) == {"arithmetic-tagged", "arithmetic-matched"}
    gate = results(dataset_design__contrast_on="gate")  # keys of validation and test are not taught
    assert set(judged(evidence(results=gate), *names)["emerges"]["cases"]) == set(TASKS)


def test_a_run_that_missed_the_gate_counts_against_both_and_nothing_else_is_said_of_it():
    gone, whole = SEEDS[-1], evidence()
    known = results()
    known["inference"][gone] = {
        name: known["inference"][gone][name] for name in ("01_dataset_design", "02_training")
    }

    def cut(rows: pd.DataFrame) -> pd.DataFrame:
        return rows[(rows.task != "inference") | (rows.seed.astype(str).str[-1] != str(gone)[-1])]

    answers = whole.behaviors.copy()
    missed = (answers.task == "inference") & (answers.seed == gone)
    answers.loc[missed, "memory"] = answers.n[missed]
    answers.loc[missed, "rule"] = 0
    given = evidence(
        results=known,
        behaviors=answers,
        scores=cut(whole.scores),
        outcomes=cut(whole.outcomes),
        transfers=cut(whole.transfers),
    )
    found = judged(given)
    assert found["emerges"]["verdict"] != SUPPORTED
    assert found["emerges"]["cases"]["inference"]["n_seeds"] == len(SEEDS)
    assert found["steer_m2g.random"]["cases"]["inference"]["n_seeds"] == len(SEEDS) - 1
    assert found["last_layer"]["cases"]["arithmetic-tagged against inference"]["n_seeds"] == (
        len(SEEDS) - 1
    )
    assert overview({"inference": {gone: known["inference"][gone]}}).empty


# -- what is not there, and what is said -----------------------------------------------------------
def test_what_was_not_measured_is_open():
    nothing = results(
        confounds__lens={"gain_before": None, "n": 0, "before_answer": None},
        open_points__instruction=None,
        differentiation__base_null=None,
    )
    for runs in nothing.values():
        for stages in runs.values():
            del stages["04_differentiation"]["base"]
    few = scores().drop(columns=["nearest_setting"]).assign(base_probe=np.nan)
    found = judged(evidence(results=nothing, transfers=transfers().iloc[:0], scores=few))
    silent = {name: claim for name, claim in found.items() if not claim["cases"]}
    assert set(silent) == {
        "before_answer",
        "instruction",
        "differ_base",
        "base",
        "retrain",
        "stranger",
        "across_formats",
        "across_tasks",
        "addition_travels",
        "beyond_setting",
        "beyond_base",
        *ON_MORE_TASKS,
    }
    assert {(c["verdict"], c["effect"], c["n"], c["evidence"]) for c in silent.values()} == {
        (OPEN, None, 0, "This run holds nothing to test it on.")
    }
    only = judged(evidence(results={"inference": results()["inference"]}))
    for claim in ("format", "last_layer", "last_layer_only"):
        assert not only[claim]["cases"]
    assert only["same_format"]["verdict"] == SUPPORTED


def test_a_control_that_was_not_run_is_not_counted_as_beaten():
    whole = outcomes()
    for missing, claim, verdict in (
        ("forbid_source", "steer_m2g.forbid", None),
        ("unembedding_all", "steer_m2g.unembedding", SUPPORTED),  # by the one that is there
    ):
        given = evidence(outcomes=whole[whole.kind != missing])
        case = judged(given, claim)[claim]["cases"].get("inference", {})
        assert case.get("verdict") == verdict


def test_a_claim_says_what_it_rests_on():
    found = judge_all(evidence(), GROUPS)
    json.dumps(found, allow_nan=False)
    assert len({claim["id"] for claim in found}) == len(found) == len(CLAIMS)
    assert list(dict.fromkeys(claim["group"] for claim in found)) == list(GROUPS)
    pairs = {"arithmetic", "arithmetic-tagged against inference"}
    for claim in found:
        assert claim["text"].endswith(".") and claim["test"] and claim["source"]
        assert claim["track"] == "scratch" and set(claim["cases"]) <= {*TASKS, *pairs}
        assert all(case["n_seeds"] == 3 for case in claim["cases"].values())
        assert "nan" not in claim["evidence"] and claim["evidence"].endswith(".")
    (shown,) = [claim for claim in found if claim["id"] == "steer_m2g.forbid"]
    assert "arithmetic-tagged 0.70 (0.69 to 0.71; supported)" in shown["evidence"]
    assert "no interval" in judge(CLAIMS[0], of_one_seed())["evidence"]


def of_one_seed() -> Evidence:
    whole = evidence()
    tables = {
        name: (rows := getattr(whole, name))[rows.seed == 0]
        for name in ("behaviors", "scores", "outcomes", "transfers")
    }
    results = {task: {0: runs[0]} for task, runs in whole.results.items()}
    later = {task: (shares[:1], n) for task, (shares, n) in whole.later.items()}
    return Evidence(results, **tables, later=later)


def test_one_seed_decides_nothing():
    found = judge_all(of_one_seed(), GROUPS)
    assert {claim["verdict"] for claim in found} == {OPEN}
    assert ledger.tests(found) == {"n": 0, "limits": 0, "by_chance": 0.0}


def test_tests_with_an_interval_are_counted():
    found = judge_all(evidence(), GROUPS)
    counts = ledger.tests(found)
    assert counts["n"] + counts["limits"] == sum(len(claim["cases"]) for claim in found)
    assert ledger.tests(found[:1]) == {"n": 0, "limits": 1, "by_chance": 0.0}  # both emerge
    (format_,) = [claim for claim in found if claim["id"] == "format"]
    assert ledger.tests([format_]) == {"n": 1, "limits": 0, "by_chance": 0.025}


# -- keys ------------------------------------------------------------------------------------------
def keys_dealt(rows: pd.DataFrame) -> pd.DataFrame:
    """The keys of the outcomes dealt anew within every seed, direction and kind."""
    rng = np.random.default_rng(0)
    groups = rows.groupby(["task", "seed", "direction", "kind"]).key
    return rows.assign(key=groups.transform(lambda keys: rng.permutation(keys.to_numpy())))


def test_keys_dealt_at_random_change_intervals_only_where_seeds_share_them():
    """Some keys always turn and some never do. Seeds with keys of their own hold that in how they
    differ; seeds with the same keys agree about it, and a study with other keys would not.
    """
    easy = outcomes()
    rows = easy.kind == STEERED
    easy.loc[rows, "wins"] = np.where(easy.key[rows].str[3:].astype(int) % 2, 20, 4)
    wide, name = {}, "steer_m2g.forbid"
    for track in TRACKS:
        own, dealt = (
            judged(evidence(track, outcomes=given), name)[name]["cases"]["inference"]
            for given in (easy, keys_dealt(easy))
        )
        assert own["effect"] == pytest.approx(dealt["effect"])
        wide[track] = [case["interval"][1] - case["interval"][0] for case in (own, dealt)]
    assert wide["scratch"][0] == pytest.approx(wide["scratch"][1])
    assert wide["lora"][0] > 1.2 * wide["lora"][1] > 1.2 * wide["scratch"][0]


# -- the mutation check: shuffled behaviours -------------------------------------------------------
PARTS = ("behaviors", "scores", "outcomes", "transfers")
POSITIVE = ("differ", "predictable", "steer_m2g.random", "steer_g2m.random", "retrain")


def with_words(model, tokenizer):
    """The planted model, in which the words before the last also leave a trace, on coordinates that
    no answer depends on.
    """
    model, draw = copy.deepcopy(model), torch.Generator().manual_seed(0)
    silent = sorted(
        i for word, i in tokenizer.get_vocab().items() if word.startswith(("key", "word"))
    )
    with torch.no_grad():
        model.transformer.wte.weight[silent, 4:] = torch.randn(len(silent), 4, generator=draw)
        for block in model.transformer.h:
            block.attn.c_proj.weight[:, 4:] = 0.5 * torch.randn(8, 4, generator=draw)
    return model


#: of the labs that are run; everything else as in preset smoke
GIVEN = {
    "04_differentiation": {"max_pairs": 300, "n_permutations": 1000},
    "05_prediction": {
        "sites": ["resid_post"],
        "max_prompts": 60,
        "n_shuffles": 1,
        "n_resamples": 50,
    },
    "06_intervention": {
        "alphas": [1.0],
        "top_ns": [1 / 16],
        "n_prompts": 30,
        "n_control_draws": 8,
        "n_side_effect_prompts": 5,
    },
}


def run_the_study(planted, runs: Path, shuffled: bool) -> Evidence:
    """Three seeds of the real labs on the planted model; with `shuffled`, the behaviours of its
    answers are dealt out at random.
    """
    model, tokenizer, task, frame, answered = planted(ManyKeys, 24)
    model = with_words(model, tokenizer)
    results, parts = {"planted": {}}, {name: [] for name in PARTS}
    for seed in SEEDS:
        known, asked = answered.copy(), copy.copy(task)
        asked.seed = seed
        if shuffled:
            known["behavior"] = np.random.default_rng(seed).permutation(known.behavior)
        for name, given in GIVEN.items():
            lab = planted_lab(name, runs, (model, tokenizer, asked, frame, known), given)
            run_cell(lab)
        run = lab.run
        results["planted"][seed] = {name: run[name].result for name in GIVEN} | {
            "01_dataset_design": {"contrast_on": "none"},
            "02_training": dict.fromkeys(GATE, 0.5) | {"other_rate": 0.0, "free_accuracy": 1.0},
        }
        # one neuron decides all answers here, those of free prompts too: towards memory no shift is
        # within a limit on what they lose, and a shuffle is about success, whatever it costs
        steered = run["06_intervention"]
        outcomes = outcomes_by_key(steered.table("outcomes"), steered.result)
        steering = Steering.of(run)
        cells = dict.fromkeys(DIRECTIONS, Cell(1 / 16, 1.0))
        source = Source(steering.maps, cells, chosen_on=frozenset())
        rng = np.random.default_rng(seed)
        applied = apply_sources(steering, {"retrain": source}, known, 40, 2, rng).assign(
            target=f"seed {seed}", kind="retrain", shared_base=True, seed=seed
        )
        found = {
            "behaviors": behaviors_by_key(run.answered()),
            "scores": run["05_prediction"].table("scores"),
            "outcomes": outcomes.assign(wins=outcomes.unlimited),
        }
        for name, table in found.items():
            parts[name].append(table.assign(task="planted", seed=seed))
        parts["transfers"].append(transfers_by_key(applied).assign(task="planted"))
    tables = {name: pd.concat(found, ignore_index=True) for name, found in parts.items()}
    return Evidence(results, **tables, later={"planted": ([0.5] * 3, 1)})


@pytest.mark.slow
def test_shuffled_behaviours_leave_no_positive_verdict(planted, tmp_path):
    """What a shuffle leaves as it is are limits: rates of the behaviours, and how little shifts do.
    Every claim with a smallest effect of interest is about a difference, and has to fall.
    """
    given = {name: run_the_study(planted, tmp_path / str(name), name) for name in (False, True)}
    true, false = (verdicts(given[shuffled]) for shuffled in (False, True))
    assert {name: true[name] for name in POSITIVE} == dict.fromkeys(POSITIVE, SUPPORTED)
    differences = {claim.id for claim in CLAIMS if claim.margin}
    assert SUPPORTED not in {false[name] for name in differences & set(false)}, false
    dealt = replace(given[False], outcomes=keys_dealt(given[False].outcomes))
    assert verdicts(dealt) == true  # the seeds of this study have keys of their own
