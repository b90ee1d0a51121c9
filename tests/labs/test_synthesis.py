"""Synthesis: overview and headline are built from the numbers, and the ledger gets its tables from
the runs' files.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from memgen.claims.evidence import Evidence, later_share, read_evidence, read_results
from memgen.claims.ledger import judge_all
from memgen.claims.pooled import describe, pooled_steering, strongest
from memgen.claims.quantities import main_numbers
from memgen.config.analyses import SynthesisParameters
from memgen.errors import ArtifactError
from memgen.figures.synthesis import forest, formats, gate, main_finding
from memgen.labs.synthesis import claims_table, headline, mean_auc, numbers_table, overview
from memgen.presets import stage_parameters
from memgen.stages import labs_of
from memgen.steering.controls import CONTROLS
from memgen.store.files import write_json
from memgen.store.folders import input_folders
from memgen.store.reader import FinishedStage
from memgen.terms import DIRECTIONS, INCONCLUSIVE, SUPPORTED


def steered(success: float, control: float, n: int = 200) -> dict:
    return {
        "alpha": 2.0,
        "top_n": 0.1,
        "success": success,
        "interval": [success, success],
        "other": 0.0,
        "n": n,
        "controls": {name: max(0.0, control - 0.01 * i) for i, name in enumerate(CONTROLS)},
        "control_n": dict.fromkeys(CONTROLS, 5 * n),
        "rephrase_floor": 0.1,
        "rephrase_n": n,
        "free_accuracy_after": 0.9,
        "keyed_accuracy_after": 0.9,
        "kl": 0.1,
    }


def seed(**changes) -> dict:
    """The results of one run in which every claim holds."""
    stages = {
        "01_dataset_design": {},
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
            "max_abs_rho": [0.2, 0.8],
        },
        "05_prediction": {
            "best_auc": 0.95,
            "best_auc_interval": [0.9, 0.98],
            "best_layer": 1,
            "prompt_only_auc": 0.6,
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


def test_pooling_counts_prompts():
    found = {
        "inference": {
            0: seed(intervention__m2g=steered(1.0, 0.0, n=100)),
            1: seed(intervention__m2g=steered(0.5, 0.0, n=300)),
        }
    }
    row = pooled_steering(found).query("direction == 'm2g' and kind == 'steered'").iloc[0]
    assert (row["rate"], row.n, row.worst, row.best) == (
        0.625,
        400,
        0.5,
        1.0,
    ) and row.low < 0.625 < row.high


def test_the_overview_has_a_row_a_run_and_the_strongest_control():
    table = overview(results())
    assert len(table) == 4 and set(table.seed) == {0, 1}
    assert (table.m2g_control == 0.3).all() and (table.m2g_control_name == "random_neurons").all()


def test_the_strongest_control_is_chosen_after_pooling_and_is_no_rephrasing():
    """In each seed another control is the strongest; the third is it over both."""
    found = results("inference")
    rates = {"low_rho": (0.6, 0.0), "permuted": (0.0, 0.5), "random_sign": (0.4, 0.4)}
    for k in (0, 1):
        one = steered(0.9, 0.0) | {"rephrase_floor": 0.95}
        one["controls"] = {name: by_seed[k] for name, by_seed in rates.items()}
        found["inference"][k] = seed(intervention__m2g=one)
    row = strongest(pooled_steering(found), "inference", "m2g")
    assert (row.kind, row.rate, row.n) == ("random_sign", 0.4, 2000) and row.low < 0.4 < row.high
    assert set(overview(found).m2g_control_name) == {"low_rho", "permuted"}  # in single seeds


def said(found: dict, verdict: str) -> tuple[str, dict]:
    """The headline of these results where the ledger says so of the format."""
    evidence = Evidence(found, *[pd.DataFrame()] * 4, later={})
    claims = [{"id": "format", "cases": {"arithmetic": {"verdict": verdict}}}]
    return headline(evidence, claims)


def test_the_main_finding_is_told_in_its_numbers():
    both = results("arithmetic-tagged", "arithmetic-matched")
    for k in (0, 1):
        both["arithmetic-matched"][k] = seed(intervention__m2g=steered(0.4, 0.3))
    text, number = said(both, SUPPORTED)
    assert "90%" in text and "40%" in text and "format of the answer" in text
    assert (number["rate"], number["n"], number["control"]) == (0.9, 400, 0.3)
    assert "arithmetic-matched" in describe(pooled_steering(both), mean_auc(overview(both)))
    assert "format" not in said(results("inference"), SUPPORTED)[0]


def test_the_headline_says_of_the_format_what_the_ledger_says():
    """Rates far apart decide nothing."""
    both = results("arithmetic-tagged", "arithmetic-matched")
    for k in (0, 1):
        both["arithmetic-matched"][k] = seed(intervention__m2g=steered(0.1, 0.05))
    text, _ = said(both, INCONCLUSIVE)
    assert "10%" in text and "format" not in text


def test_figures_say_what_they_show():
    both = results("arithmetic-tagged", "arithmetic-matched")
    table, known = overview(both), {"value": 0.5, "low": 0.4, "high": None}
    numbers = {task: dict.fromkeys((*DIRECTIONS, "auc"), known) for task in both}
    numbers["arithmetic-matched"]["auc"] = dict.fromkeys(known)
    claim = {"name": "steering", "evidence": "inference 0.30.", "above": True, "threshold": 0.0}
    case = {"effect": 0.3, "interval": [None, None], "verdict": INCONCLUSIVE}
    drawn = {
        "main-finding": main_finding(pooled_steering(both), mean_auc(table)),
        "gate": gate(table),
        "format": formats(numbers, ["arithmetic"]),
        "ledger": forest([claim | {"cases": {"inference": case}}, claim | {"cases": {}}]),
    }
    assert {one.name for one in drawn.values()} == set(drawn)
    assert "arithmetic-tagged seed 1: memory 0.40, rule 0.50" in drawn["gate"].alt
    assert "arithmetic m2g: 0.50 against 0.50" in drawn["format"].alt
    assert "auc: 0.50 against undefined" in drawn["format"].alt
    assert drawn["ledger"].alt.endswith("steering: inference 0.30. steering: inference 0.30.")
    assert drawn["main-finding"].alt == describe(pooled_steering(both), mean_auc(table))
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
                "lens": {"probe_auc_before": None, "n": 0},
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
                    "prompt_only": [0.0] * 4,
                }
            ).to_parquet(folder / "scores.parquet")
        elif folder.name == "06_intervention":
            rows = [
                (d, kind, key, kind == "steered")
                for d in ("m2g", "g2m")
                for kind in ("steered", "low_rho")
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
    assert found.later == {
        "inference": [0.5, 0.5]
    }  # all of the top neurons are in the middle one of three layers


def test_the_later_half_of_an_even_number_of_layers(tmp_path):
    def share(rho: np.ndarray) -> float:
        arrays = {"rho.mlp_out": rho, "nmd.mlp_out": rho}
        save_file(arrays, tmp_path / "arrays.safetensors")
        return later_share(FinishedStage(tmp_path))

    write_json(tmp_path / "result.json", {"site": "mlp_out"})
    rho = np.zeros((4, 10))
    rho[0, 0], rho[2, 1] = 0.5, -0.9  # the top 5 % are two neurons
    assert share(rho) == 0.5
    rho[3, 3], rho[0, 0] = 0.6, 0.0
    assert share(rho) == 1.0


def test_claims_come_from_the_files(runs):
    found = {claim["id"]: claim for claim in judge_all(read_evidence(runs))}
    assert found["steer_m2g"]["verdict"] == "supported" and found["steer_m2g"]["n"] == 8
    assert (
        found["predictable"]["effect"] == 1.0
        and found["retrain"]["cases"] == {}
        and found["stranger"]["cases"]["inference"]["n"] == 8
    )
    assert found["instruction"]["verdict"] == found["before_answer"]["verdict"] == "inconclusive"
    numbers = main_numbers(read_evidence(runs))["inference"]
    assert {name: x["value"] for name, x in numbers.items()} == {
        "memory": 0.5,
        "rule": 0.25,
        "auc": 1.0,
        "m2g": 1.0,
        "g2m": 1.0,
    }
    assert numbers["m2g"] | {"value": 0} == {
        "value": 0,
        "low": 1.0,
        "high": 1.0,
        "n": 8,
        "n_keys": 4,
        "n_seeds": 2,
    }


def test_the_evidence_labs_belong_to_the_track_from_scratch(runs):
    labs = set(labs_of("run", "scratch")) - set(labs_of("run", "lora"))
    assert labs == {"09_confounds", "10_ablations", "11_open_points"}
    assert labs <= {folder.name for folder in input_folders("08_synthesis", runs)}
    adapters = runs.model_copy(update={"track": "lora"})
    assert not labs & {folder.name for folder in input_folders("08_synthesis", adapters)}


def test_tables_for_the_page_have_a_row_per_number_and_claim(runs):
    evidence = read_evidence(runs)
    claims = judge_all(evidence)
    numbers = numbers_table(main_numbers(evidence))
    assert list(numbers.quantity) == ["memory", "rule", "auc", "m2g", "g2m"]
    shown = claims_table(claims)
    assert list(shown.verdict) == [claim["verdict"] for claim in claims]
    assert list(shown)[0] == "claim" and list(shown)[-1] == "effect and interval by task"
