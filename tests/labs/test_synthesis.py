"""Synthesis: overview and headline are built from the numbers, and the ledger gets its tables from
the runs' files.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from memgen.claims.catalogue import GROUPS
from memgen.claims.evidence import Evidence, later_share, read_evidence, read_results
from memgen.claims.ledger import judge_all
from memgen.claims.quantities.overview import main_numbers
from memgen.claims.success import BEST_RANDOM, FORBID, describe, row_of, success_table
from memgen.config.analyses import SynthesisParameters
from memgen.errors import ArtifactError
from memgen.figures.synthesis import forest, formats, gate, main_finding, verdicts
from memgen.labs.synthesis import (
    claims_table,
    headline,
    mean_auc,
    numbers_table,
    overview,
    simulated_coverage,
)
from memgen.presets import stage_parameters
from memgen.stages import labs_of
from memgen.store.files import write_json
from memgen.store.folders import input_folders
from memgen.store.reader import FinishedStage
from memgen.terms import CONTRADICTED, DIRECTIONS, OPEN


def steered(success: float, random: float, forbidden: float = 0.2) -> dict:
    """A direction of lab 06."""
    return {
        "alpha": 2.0,
        "top_n": 0.1,
        "success": success,
        "interval": [success, success],
        "other": 0.0,
        "n": 200,
        "controls": {"low_rho": 0.0, BEST_RANDOM: random},
        "output_controls": {FORBID: {"success": forbidden, "n": 200}},
        "free_accuracy_before": 0.96,
        "free_accuracy_after": 0.95,
        "keyed_accuracy_before": 0.96,
        "keyed_accuracy_after": 0.95,
    }


def seed(**changes) -> dict:
    """The results of one run in which every claim holds."""
    stages = {
        "01_dataset_design": {"contrast_on": "none"},
        "02_training": {
            "memory_rate": 0.4,
            "rule_rate": 0.5,
            "other_rate": 0.1,
            "free_accuracy": 0.97,
        },
        "03_pairs": {},
        "04_differentiation": {
            "significant_share": [0.1, 0.6],
            "null_significant_share": [0.0, 0.02],
            "nmd_split_half": [0.02, 0.3],
            "max_abs_rho": [0.2, 0.8],
        },
        "05_prediction": {
            "best_auc": 0.95,
            "best_auc_interval": [0.9, 0.98],
            "best_layer": 1,
            "prompt_only_auc": 0.6,
            "auc": [0.7, 0.95],
            "n_test": 4,
        },
        "06_intervention": {"m2g": steered(0.9, 0.3), "g2m": steered(0.5, 0.1)},
    }
    for name, value in changes.items():
        stage = next(s for s in stages if s.endswith(name.split("__")[0]))
        stages[stage][name.split("__")[1]] = value
    return stages


def results(*tasks: str, **changes) -> dict:
    return {
        task: {0: seed(**changes), 1: seed(**changes), "all": {}}
        for task in tasks or ("arithmetic-tagged", "inference")
    }


def counted(*rows: tuple) -> pd.DataFrame:
    """Outcomes of `(task, seed, direction, kind, wins of 10)`, one key a row."""
    columns = ["task", "seed", "direction", "kind", "wins"]
    return pd.DataFrame(rows, columns=columns).assign(key="a", n=10)


def evidence(found: dict, outcomes: pd.DataFrame) -> Evidence:
    return Evidence(found, *[pd.DataFrame()] * 2, outcomes, pd.DataFrame(), later={})


def every(task: str, direction: str = "m2g", **wins: int) -> list[tuple]:
    """Two seeds that agree."""
    return [(task, s, direction, kind, k) for kind, k in wins.items() for s in (0, 1)]


def test_the_overview_has_a_row_a_run_and_says_what_steering_stands_beside():
    table = overview(results())
    assert len(table) == 4 and set(table.seed) == {0, 1}
    assert (table.m2g_best_of_random == 0.3).all() and (table.m2g_forbid_source == 0.2).all()
    some = results("inference")
    del some["inference"][1]["06_intervention"]["g2m"]["controls"][BEST_RANDOM]
    assert list(overview(some).g2m_best_of_random.isna()) == [False, True]


def test_success_is_the_mean_of_the_seeds_with_the_interval_of_the_ledger():
    given = counted(
        ("inference", 0, "m2g", "steered", 9),
        ("inference", 1, "m2g", "steered", 5),
        ("inference", 0, "m2g", FORBID, 2),
        ("inference", 1, "m2g", FORBID, 2),
        ("inference", 0, "g2m", "steered", 1),
    )
    table = success_table(evidence(results("inference"), given))
    row = row_of(table, "inference", "m2g")
    assert (row["rate"], row.n, row.n_seeds) == (pytest.approx(0.7), 20, 2)
    assert row.low < 0.5 and row.high > 0.9  # two seeds that differ by as much say little
    assert row_of(table, "inference", "m2g", FORBID)["rate"] == pytest.approx(0.2)
    assert np.isnan(row_of(table, "inference", "g2m").low)  # one seed has no interval
    assert row_of(table, "inference", "g2m", FORBID) is None


BOTH = ("arithmetic-tagged", "inference")
RATES = counted(
    *every("inference", steered=6, best_of_random=3, forbid_source=2),
    *every("arithmetic-tagged", steered=9, best_of_random=1, forbid_source=10),
    *[row for task in BOTH for row in every(task, "g2m", steered=4)],
)


def test_the_headline_is_of_inference_and_names_what_one_forbidden_token_does():
    given = evidence(results(*BOTH), RATES)
    text, number = headline(given, success_table(given))
    assert (number["task"], number["rate"], number["n"]) == ("inference", pytest.approx(0.6), 20)
    assert number["controls"] == pytest.approx({BEST_RANDOM: 0.3, FORBID: 0.2})
    assert number["low"] <= number["rate"] <= number["high"] and number["n_seeds"] == 2
    assert number["counterpart"]["task"] == "arithmetic-tagged"
    assert number["counterpart"][FORBID] == pytest.approx(1.0)
    for said in ("turns 60%", "directions: 30%", "shifted: 20%", "turns 90%", "alone 100%", "0.95"):
        assert said in text, said


def test_a_study_without_inference_has_its_first_task_as_headline_and_no_counterpart():
    rates = RATES[RATES.task == "arithmetic-tagged"]
    given = evidence(results("arithmetic-tagged"), rates[rates.kind != BEST_RANDOM])
    text, number = headline(given, success_table(given))
    assert number["task"] == "arithmetic-tagged" and "counterpart" not in number
    assert number["controls"][BEST_RANDOM] is None and "an undefined share" in text


def test_coverage_is_simulated_at_the_numbers_of_each_task():
    rows = [
        {"task": task, "seed": seed, "key": f"k{k}", "memory": 4, "rule": 5, "n": 10}
        for task, keys in (("inference", 6), ("arithmetic-tagged", 4))
        for seed in (0, 1, 2)
        for k in range(keys)
    ]
    given = Evidence(results(*BOTH), pd.DataFrame(rows), *[pd.DataFrame()] * 3, later={})
    found = simulated_coverage(given, 40)
    assert {(row["task"], row["n_keys"]) for row in found} == {
        ("inference", 6),
        ("arithmetic-tagged", 4),
    }
    assert all(row["n_studies"] == 40 and 0.7 < row["covered"] <= 1 for row in found)
    one = Evidence(results(*BOTH), pd.DataFrame(rows[:6]), *[pd.DataFrame()] * 3, later={})
    assert simulated_coverage(one, 40) == []  # one seed has no interval


def case(verdict: str, effect: float, *interval: float | None) -> dict:
    return {"effect": effect, "interval": list(interval), "verdict": verdict}


def test_figures_say_what_they_show():
    both = results("arithmetic-tagged", "arithmetic-matched")
    table, known = overview(both), {"value": 0.5, "low": 0.4, "high": 0.6}
    rates = counted(*[r for t in both for d in DIRECTIONS for r in every(t, d, steered=7)])
    steering = success_table(evidence(both, rates))
    numbers = {task: dict.fromkeys((*DIRECTIONS, "auc"), known) for task in both}
    numbers["arithmetic-matched"]["auc"] = dict.fromkeys(known)
    claim = {"evidence": "inference 0.30.", "above": True, "threshold": 0.0, "margin": 0.05}
    claims = [
        claim
        | {"name": "steering", "group": "G", "cases": {"inference": case(OPEN, 0.3, None, None)}},
        claim
        | {"name": "other", "group": "G 2", "cases": {"cipher": case(CONTRADICTED, 0, -0.1, 0)}},
        claim | {"name": "untested", "group": "G", "cases": {}},
    ]
    drawn = {
        "main-finding": main_finding(steering, mean_auc(table)),
        "gate": gate(table),
        "format": formats(numbers, ["arithmetic"]),
        "ledger": verdicts(claims),
        "ledger-g": forest(claims, "G"),
    }
    assert {one.name for one in drawn.values()} == set(drawn)
    assert "arithmetic-tagged seed 1: memory 0.40, rule 0.50" in drawn["gate"].alt
    assert "arithmetic m2g: 0.50 against 0.50" in drawn["format"].alt
    assert "auc: 0.50 against undefined" in drawn["format"].alt
    assert "steering: inference open. other: cipher contradicted." in drawn["ledger"].alt
    assert "untested" not in drawn["ledger"].alt
    assert drawn["ledger-g"].alt.endswith("by task. steering: inference 0.30.")
    assert drawn["main-finding"].alt == describe(steering, mean_auc(table))
    assert all(one.caption.endswith(".") for one in drawn.values())


def test_results_are_read_by_task_and_seed(tmp_path):
    p = stage_parameters(
        "08_synthesis",
        {"preset": "smoke", "runs": str(tmp_path), "seeds": [0, 2], "tasks": ["inference"]},
    )
    assert isinstance(p, SynthesisParameters)
    with pytest.raises(ArtifactError, match="result.json is missing"):
        read_results(p)
    for folder in input_folders("08_synthesis", p):
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(f'{{"from": "{folder.parent.name}"}}')
    found = read_results(p)
    assert set(found["inference"]) == {0, 2, "all"}
    assert found["inference"][2]["06_intervention"] == {"from": "seed2"} and found["inference"][
        "all"
    ] == {"07_transfer": {"from": "all"}}


# -- what the ledger is computed from --------------------------------------------------------------
@pytest.fixture
def runs(tmp_path):
    """The parameters of a synthesis over two seeds of one task, with the tables that the ledger
    reads.
    """
    p = stage_parameters(
        "08_synthesis",
        {"preset": "smoke", "runs": str(tmp_path), "seeds": [0, 2], "tasks": ["inference"]},
    )
    for folder in input_folders("08_synthesis", p):
        folder.mkdir(parents=True)
        write_json(
            folder / "result.json",
            seed().get(folder.name, {})
            | {
                "site": "resid_post",
                "n_pairs": 5,
                "lens": {"gain_before": None, "n": 0},
                "instruction": None,
            },
        )
        if folder.name == "03_pairs":
            rows = [
                (key, split, rephrasing, behaviour)
                for key, split in (("a", "test"), ("b", "test"), ("c", "train"))
                for rephrasing in (0, 1)
                for behaviour in ("memorization", "memorization", "generalization", "other")
            ]
            pd.DataFrame(rows, columns=["key", "split", "rephrasing", "behavior"]).to_parquet(
                folder / "answered.parquet"
            )
        elif folder.name == "04_differentiation":
            rho = np.array([[0.1] * 10, [0.9] * 10, [0.2] * 10])
            maps = {"rho.resid_post": rho, "nmd.resid_post": rho}
            save_file(maps, folder / "arrays.safetensors")
        elif folder.name == "05_prediction":
            pd.DataFrame(
                {
                    "key": ["a", "a", "b", "b"],
                    "label": [0, 1, 0, 1],
                    "probe": [-1.0, 1.0, -2.0, 2.0],
                    "chosen_baseline": [0.0] * 4,
                }
            ).to_parquet(folder / "scores.parquet")
        elif folder.name == "06_intervention":
            rows = [
                (d, kind, key, kind == "steered")
                for d in ("m2g", "g2m")
                for kind in ("steered", "random_neurons")
                for key in "aabb"
            ]
            pd.DataFrame(rows, columns=["direction", "kind", "key", "success"]).to_parquet(
                folder / "outcomes.parquet"
            )
        elif folder.name == "07_transfer":
            counts = [
                {"key": "a", "wins": 1, "n": 2, "control_wins": 0, "control_n": 6},
                {"key": "b", "wins": 2, "n": 2, "control_wins": 3, "control_n": 6},
            ]
            cells = [
                {
                    "source": s,
                    "target": t,
                    "direction": "m2g",
                    "kind": "retrain",
                    "shared_base": s == t,
                    "seed": 0,
                    "by_key": counts,
                }
                for s in ("seed 0", "seed 2")
                for t in ("seed 0", "seed 2")
            ]
            pd.DataFrame(cells).to_parquet(folder / "cells.parquet")
    return p


def test_the_ledger_reads_test_keys_and_counts_by_key(runs):
    found = read_evidence(runs)
    assert found.tasks == ["inference"] and set(found.behaviors.key) == {
        "a",
        "b",
    }  # no train key, no rephrasing
    assert (found.behaviors[["memory", "rule", "n"]] == [2, 1, 4]).all().all() and len(
        found.behaviors
    ) == 4
    steered = found.outcomes[found.outcomes.kind == "steered"]
    assert (steered.wins == 2).all() and (steered.n == 2).all() and set(steered.seed) == {0, 2}
    assert (
        len(found.transfers) == 8
        and found.transfers.own.sum() == 4
        and set(found.transfers.seed) == {"seed 0", "seed 2"}
    )
    # all of the top neurons, two of thirty, are in the middle one of three layers
    assert found.later == {"inference": ([0.5, 0.5], 2)}


def test_the_later_half_of_an_even_number_of_layers(tmp_path):
    def share(rho: np.ndarray) -> tuple[float, int]:
        arrays = {"rho.mlp_out": rho, "nmd.mlp_out": rho}
        save_file(arrays, tmp_path / "arrays.safetensors")
        return later_share(FinishedStage(tmp_path))

    write_json(tmp_path / "result.json", {"site": "mlp_out"})
    rho = np.zeros((4, 10))
    rho[0, 0], rho[2, 1] = 0.5, -0.9  # the top 5 % are two neurons
    assert share(rho) == (0.5, 2)
    rho[3, 3], rho[0, 0] = 0.6, 0.0
    assert share(rho) == (1.0, 2)


def test_claims_come_from_the_files(runs):
    found = {claim["id"]: claim for claim in judge_all(read_evidence(runs), GROUPS)}
    assert found["steer_m2g.random"]["effect"] == 1.0  # which eight prompts do not make certain
    assert found["steer_m2g.random"]["verdict"] == OPEN
    assert found["steer_m2g.random"]["n"] == 8 and found["steer_m2g.forbid"]["cases"] == {}
    assert set(found["emerges"]["cases"]) == {"inference"} and found["taught"]["cases"] == {}
    assert (
        found["predictable"]["effect"] == 1.0
        and found["retrain"]["cases"] == {}
        and found["stranger"]["cases"]["inference"]["n"] == 8
    )
    assert found["instruction"]["verdict"] == found["before_answer"]["verdict"] == OPEN
    assert found["beyond_words"]["effect"] == 0.5
    numbers = main_numbers(read_evidence(runs))["inference"]
    assert {name: x["value"] for name, x in numbers.items()} == {
        "memory": 0.5,
        "rule": 0.25,
        "auc": 1.0,
        "m2g": 1.0,
        "g2m": 1.0,
    }
    counts = {name: numbers["m2g"][name] for name in ("n", "n_keys", "n_seeds")}
    assert counts == {"n": 8, "n_keys": 4, "n_seeds": 2}
    assert numbers["m2g"]["low"] < 1 < numbers["m2g"]["high"]  # eight prompts are no certainty


def test_the_evidence_labs_belong_to_the_track_from_scratch(runs):
    labs = set(labs_of("run", "scratch")) - set(labs_of("run", "lora"))
    assert labs == {"09_confounds", "10_ablations", "11_open_points"}
    assert labs <= {folder.name for folder in input_folders("08_synthesis", runs)}
    adapters = runs.model_copy(update={"track": "lora"})
    assert not labs & {folder.name for folder in input_folders("08_synthesis", adapters)}


def test_tables_for_the_page_have_a_row_per_number_and_claim(runs):
    evidence = read_evidence(runs)
    claims = judge_all(evidence, GROUPS)
    numbers = numbers_table(main_numbers(evidence))
    assert list(numbers.quantity) == ["memory", "rule", "auc", "m2g", "g2m"]
    shown = claims_table(claims)
    assert list(shown.verdict) == [claim["verdict"] for claim in claims]
    assert list(shown)[0] == "claim" and list(shown)[-1] == "effect and interval by task"
