"""The ledger: verdicts follow from planted numbers, each claim hangs on its own, and shuffled
labels leave none standing.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from computing import planted_lab, run_cell
from memgen.claims.evidence import Evidence, behaviors_by_key, outcomes_by_key, transfers_by_key
from memgen.claims.ledger import CLAIMS, in_gate, judge_all, over_cases, verdict_on
from memgen.claims.quantities import GATE
from memgen.labs.transfer import Source, apply_sources
from memgen.steering.cells import Cell
from memgen.steering.steering import Steering
from memgen.terms import CONTRADICTED, DIRECTIONS, INCONCLUSIVE, SUPPORTED
from planted import ManyKeys

TASKS = ("cipher-tagged", "cipher-matched", "inference")
SEEDS, KEYS = (0, 1, 2), [f"key{i}" for i in range(12)]


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


def outcomes(control: int = 3, **wins: int) -> pd.DataFrame:
    """Of 12 prompts a key: 9 change sides (m2g; 7 where the answers look alike) or 6 (g2m), and
    `control` under each control.
    """
    m2g, g2m = wins.get("m2g", 9), wins.get("g2m", 6)
    parts = [
        table(direction="m2g", kind="steered", wins=m2g),
        table(direction="g2m", kind="steered", wins=g2m),
    ]
    parts += [
        table(direction=d, kind=kind, wins=control)
        for d in DIRECTIONS
        for kind in ("random_neurons", "rephrasing")
    ]
    found = pd.concat(parts, ignore_index=True).assign(n=12)
    found.loc[
        (found.task == "cipher-matched") & (found.kind == "steered") & (found.direction == "m2g"),
        "wins",
    ] = wins.get("matched", 7)
    return found


def transfers(retrain: int = 8, stranger: int = 2, tasks: int = 6) -> pd.DataFrame:
    kinds = (("retrain", True, retrain), ("retrain", False, stranger), ("task", True, tasks))
    return pd.concat(
        [
            table(
                source="other",
                direction=d,
                kind=kind,
                own=False,
                shared=shared,
                wins=wins,
                n=12,
                control_wins=4,
                control_n=24,
            )
            for d in DIRECTIONS
            for kind, shared, wins in kinds
        ],
        ignore_index=True,
    )


def scores(shift: float = 2.0, prompt: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = pd.concat([table(label=label) for label in (0, 1) for _ in range(3)], ignore_index=True)
    return rows.assign(
        probe=rng.normal(size=len(rows)) + shift * rows.label,
        prompt_only=rng.normal(size=len(rows)) + prompt * rows.label,
    )


def instructed(success: float) -> dict:
    return {
        d: {"instruction": {"success": success, "n": 50}, "steering": {"success": 0.8, "n": 50}}
        for d in DIRECTIONS
    }


def results(**changes) -> dict:
    """Every run of every task; `changes`: `training__other_rate=0.3`."""
    stages = {
        "02_training": {
            "memory_rate": 0.4,
            "rule_rate": 0.5,
            "other_rate": 0.1,
            "free_accuracy": 0.97,
        },
        "04_differentiation": {
            "significant_share": [0.1, 0.6],
            "null_significant_share": [0.0, 0.02],
            "max_abs_rho": [0.2, 0.8],
            "n_pairs": 50,
            "base": {"mean_abs_nmd": {"on": [0.1, 0.2], "off": [0.1, 0.15]}, "n_pairs": 50},
        },
        "09_confounds": {"lens": {"probe_auc_before": 0.8, "n": 100}},
        "11_open_points": {"instruction": instructed(0.4)},
    }
    for name, value in changes.items():
        stage = next(s for s in stages if s.endswith(name.split("__")[0]))
        stages[stage][name.split("__")[1]] = value
    return {task: {seed: copy.deepcopy(stages) for seed in SEEDS} for task in TASKS}


def evidence(**changes) -> Evidence:
    """Evidence in which every claim holds, save for what is changed."""
    parts = {
        "results": results(),
        "behaviors": table(memory=5, rule=6, n=12),
        "scores": scores(),
        "outcomes": outcomes(),
        "transfers": transfers(),
        "later": {task: [0.8, 0.9, 0.85] for task in TASKS},
    }
    return Evidence(**parts | changes)


def verdicts(given: Evidence) -> dict[str, str]:
    return {claim["id"]: claim["verdict"] for claim in judge_all(given)}


def test_where_everything_holds_everything_is_supported():
    assert verdicts(evidence()) == {claim.id: SUPPORTED for claim in CLAIMS}


SPOILED = {
    "dual": {"results": results(training__other_rate=0.3)},
    "differ": {"results": results(differentiation__null_significant_share=[0.2, 0.7])},
    "deeper": {"results": results(differentiation__max_abs_rho=[0.8, 0.7])},
    "later": {"later": dict.fromkeys(TASKS, [0.2, 0.3, 0.25])},
    "predictable": {"scores": scores(shift=-1.0)},
    "beyond_prompt": {"scores": scores(prompt=4.0)},
    "before_answer": {"results": results(confounds__lens={"probe_auc_before": 0.4, "n": 100})},
    "steer_m2g": {"outcomes": outcomes(m2g=2, g2m=0, matched=1, control=5)},
    "steer_g2m": {"outcomes": outcomes(g2m=2)},
    "asymmetry": {"outcomes": outcomes(g2m=11)},
    "same_format": {"outcomes": outcomes(matched=1)},
    "format": {"outcomes": outcomes(matched=11)},
    "retrain": {"transfers": transfers(retrain=1)},
    "stranger": {"transfers": transfers(stranger=6)},
    "across_tasks": {"transfers": transfers(tasks=1)},
    "base": {
        "results": results(
            differentiation__base={
                "mean_abs_nmd": {"on": [0.1, 0.2], "off": [0.1, 0.0]},
                "n_pairs": 50,
            }
        )
    },
    "instruction": {"results": results(open_points__instruction=instructed(0.9))},
}


@pytest.mark.parametrize("claim", [claim.id for claim in CLAIMS])
def test_a_spoiled_number_contradicts_its_claim(claim):
    found = verdicts(evidence(**SPOILED[claim]))
    assert found[claim] == CONTRADICTED
    touched = {
        "steer_m2g": {"steer_g2m", "same_format"},
        "steer_g2m": set(),
        "same_format": {"steer_m2g", "asymmetry"},
        "asymmetry": set(),
        "predictable": {"beyond_prompt"},
        "beyond_prompt": set(),
        "format": set(),
    }
    others = {
        name: verdict
        for name, verdict in found.items()
        if name != claim and name not in touched.get(claim, set())
    }
    assert set(others.values()) == {SUPPORTED}, others


def test_one_task_is_enough_to_contradict_and_one_unclear_task_to_leave_it_open():
    claim = next(
        c for c in judge_all(evidence(outcomes=outcomes(matched=1))) if c["id"] == "same_format"
    )
    assert (
        claim["cases"]["inference"]["verdict"] == SUPPORTED
        and claim["cases"]["cipher-matched"]["verdict"] == CONTRADICTED == claim["verdict"]
    )
    assert set(claim["cases"]) == {"cipher-matched", "inference"}
    assert (claim["effect"], claim["n"]) == (
        claim["cases"]["cipher-matched"]["effect"],
        claim["cases"]["cipher-matched"]["n"],
    )  # the hardest case
    open_ = results()
    for seed, share in zip(SEEDS, (0.0, 0.9, 0.3), strict=True):
        open_["inference"][seed]["04_differentiation"]["significant_share"] = [0.0, share]
    claim = next(c for c in judge_all(evidence(results=open_)) if c["id"] == "differ")
    assert (
        claim["cases"]["inference"]["verdict"] == INCONCLUSIVE == claim["verdict"]
        and claim["cases"]["cipher-tagged"]["verdict"] == SUPPORTED
    )


@pytest.mark.parametrize("name", GATE)
def test_each_part_of_the_gate_counts_and_so_does_every_seed(name):
    low, high = GATE[name]
    beyond = high + 0.01 if name == "other_rate" else low - 0.01
    assert (
        verdicts(evidence(results=results(**{f"training__{name}": beyond})))["dual"] == CONTRADICTED
    )
    some = results()
    some["inference"][1]["02_training"][name] = beyond
    assert verdicts(evidence(results=some))["dual"] == INCONCLUSIVE


def test_one_model_is_in_the_gate_or_not():
    good = results()["inference"][0]["02_training"]
    assert in_gate(good) and not in_gate(good | {"other_rate": 0.21})


def test_verdicts_over_cases_and_on_one():
    assert over_cases([SUPPORTED, SUPPORTED]) == SUPPORTED and over_cases([]) == INCONCLUSIVE
    assert over_cases([SUPPORTED, INCONCLUSIVE]) == INCONCLUSIVE
    assert over_cases([SUPPORTED, INCONCLUSIVE, CONTRADICTED]) == CONTRADICTED
    claims = judge_all(evidence())
    assert verdict_on(claims, "format", "cipher") == SUPPORTED
    assert verdict_on(claims, "format", "arithmetic") is None


def test_what_was_not_measured_is_inconclusive():
    nothing = results(
        confounds__lens={"probe_auc_before": None, "n": 0}, open_points__instruction=None
    )
    for runs in nothing.values():
        for stages in runs.values():
            del stages["04_differentiation"]["base"]
    found = judge_all(evidence(results=nothing, transfers=transfers().iloc[:0]))
    silent = {claim["id"]: claim for claim in found if not claim["cases"]}
    assert set(silent) == {
        "before_answer",
        "instruction",
        "base",
        "retrain",
        "stranger",
        "across_tasks",
    }
    assert {(c["verdict"], c["effect"], c["n"], c["evidence"]) for c in silent.values()} == {
        (INCONCLUSIVE, None, 0, "This run holds nothing to test it on.")
    }
    only = evidence(results={"inference": results()["inference"]})
    assert verdicts(only)["format"] == INCONCLUSIVE  # no task of two variants


def test_a_claim_says_what_it_rests_on():
    found = judge_all(evidence())
    json.dumps(found, allow_nan=False)
    assert len({claim["id"] for claim in found}) == len(found) >= 14
    for claim in found:
        assert (
            claim["text"].endswith(".")
            and claim["test"]
            and claim["source"]
            and claim["track"] == "scratch"
        )
        assert set(claim["cases"]) <= {*TASKS, "cipher"} and all(
            case["n_seeds"] == 3 for case in claim["cases"].values()
        )
        assert "nan" not in claim["evidence"] and claim["evidence"].endswith(".")
    assert (
        "cipher-tagged 0.50 (0.50 to 0.50; supported)"
        in next(c for c in found if c["id"] == "steer_m2g")["evidence"]
    )


# -- the mutation check: shuffled behaviours -------------------------------------------------------
PARTS = ("behaviors", "scores", "outcomes", "transfers")
POSITIVE = ("differ", "predictable", "steer_m2g", "steer_g2m", "retrain")


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
            "02_training": dict.fromkeys(GATE, 0.5) | {"other_rate": 0.0, "free_accuracy": 1.0}
        }
        # one planted neuron permuted is that neuron, and every rephrasing of this task flips: these
        # two are no controls here
        outcomes = run["06_intervention"].table("outcomes")
        outcomes = outcomes.query("kind not in ('permuted', 'rephrasing')")
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
            "outcomes": outcomes_by_key(outcomes),
        }
        for name, table in found.items():
            parts[name].append(table.assign(task="planted", seed=seed))
        parts["transfers"].append(transfers_by_key(applied).assign(task="planted"))
    tables = {name: pd.concat(found, ignore_index=True) for name, found in parts.items()}
    return Evidence(results, **tables, later={"planted": [0.5] * 3})


@pytest.mark.slow
def test_shuffled_behaviours_leave_no_positive_verdict(planted, tmp_path):
    """The rates themselves (`dual`) are the one thing that dealing out the labels anew cannot
    touch.
    """
    true, false = (
        verdicts(run_the_study(planted, tmp_path / str(shuffled), shuffled))
        for shuffled in (False, True)
    )
    assert {name: true[name] for name in POSITIVE} == dict.fromkeys(POSITIVE, SUPPORTED)
    assert SUPPORTED not in {
        verdict for name, verdict in false.items() if name not in ("dual", "stranger")
    }, false
