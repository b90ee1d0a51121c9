"""Synthesis: overview and headline are built from the numbers, and the ledger gets its tables from
the runs' files.
"""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from memgen.claims.beside import beside_controls
from memgen.claims.catalogue import GROUPS
from memgen.claims.catalogue.maps import MAPS
from memgen.claims.catalogue.multiverse import MULTIVERSE
from memgen.claims.catalogue.rivals import RIVALS
from memgen.claims.catalogue.steering import beats
from memgen.claims.catalogue.transfer import TRANSFER
from memgen.claims.evidence import (
    Evidence,
    later_share,
    outcomes_by_key,
    read_evidence,
    read_results,
)
from memgen.claims.ledger import judge_all
from memgen.claims.quantities.overview import main_numbers
from memgen.claims.quantities.steering import beyond_control, beyond_instruction, random_success
from memgen.claims.success import describe, success_table
from memgen.config.analyses import SynthesisParameters
from memgen.errors import ArtifactError
from memgen.figures.every_task import every_task
from memgen.figures.synthesis import forest, formats, gate, main_finding, verdicts
from memgen.labs.synthesis import (
    claims_table,
    designs,
    headline,
    mean_auc,
    numbers_table,
    overview,
    simulated_coverage,
)
from memgen.presets import stage_parameters
from memgen.stages import LABS, LATER, labs_of
from memgen.stats.coverage import QUANTITIES, Design
from memgen.steering.controls import CONTROLS
from memgen.store.files import write_json
from memgen.store.folders import input_folders
from memgen.store.left_out import there
from memgen.store.reader import FinishedStage
from memgen.terms import BEST_OF_RANDOM, DIRECTIONS, OPEN, OUTPUT_CONTROLS
from planted_board import board, correlates, detection, multiverse


def steered(success: float, n: int = 200) -> dict:
    return {
        "alpha": 2.0,
        "top_n": 0.1,
        "kept_exists": True,
        "max": {"success": success, "free_accuracy_after": 0.4},
        "success": success,
        "other": 0.0,
        "n": n,
        "controls": dict.fromkeys((*CONTROLS, BEST_OF_RANDOM), 0.3),
        "output_controls": {name: {"success": 0.2, "n": n} for name in OUTPUT_CONTROLS},
        "free_accuracy_before": 0.95,
        "free_accuracy_after": 0.9,
        "keyed_accuracy_before": 0.95,
        "keyed_accuracy_after": 0.9,
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
            "nmd_split_half": [0.1, 0.4],
            "max_abs_rho": [0.2, 0.8],
            "base_null": None,
            "n_neurons": 20,
        },
        "05_prediction": {
            "auc": [0.7, 0.95],
            "n_test": 8,
            "best_auc": 0.95,
            "best_auc_interval": [0.9, 0.98],
            "best_layer": 1,
            "prompt_only_auc": 0.6,
            "chosen_baseline_auc": 0.8,
        },
        "06_intervention": {"m2g": steered(0.9), "g2m": steered(0.5)},
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


def evidence(found: dict, **rates: float) -> Evidence:
    """These results with outcomes of ten prompts a key in which each kind succeeds so often (m2g)."""
    outcomes = [
        {"task": task, "seed": k, "direction": d, "kind": kind, "key": key, "wins": wins, "n": 10}
        | {"unlimited": wins}
        for task in found
        for k in (0, 1)
        for d in DIRECTIONS
        for kind, rate in (
            {"steered": 0.9, "forbid_source": 0.2, BEST_OF_RANDOM: 0.3} | rates
        ).items()
        for key in "abc"
        for wins in [round(10 * (rate if d == "m2g" else rate / 2)) - (k == 1 and key == "a")]
    ]
    rows = [
        {"task": task, "seed": k, "key": key, "memory": 4, "rule": 5, "n": 10}
        for task in found
        for k in (0, 1)
        for key in "abc"
    ]
    return Evidence(
        found,
        behaviors=pd.DataFrame(rows),
        scores=pd.DataFrame(rows)[["task", "seed", "key"]].loc[lambda t: t.index.repeat(8)],
        outcomes=pd.DataFrame(outcomes),
        transfers=pd.DataFrame(),
        later={},
    )


def test_success_is_the_mean_of_seeds_with_the_ledgers_interval():
    table = success_table(evidence(results("inference")))
    row = table.query("direction == 'm2g' and kind == 'steered'").iloc[0]
    values = np.array([0.9, 26 / 30])
    assert row["rate"] == pytest.approx(values.mean()) and (row.n, row.n_seeds) == (60, 2)
    assert row.low < values.min() and row.high > values.max()
    assert set(table.kind) == {"steered", "forbid_source", BEST_OF_RANDOM}


def test_the_overview_has_a_row_a_run_and_two_controls():
    table = overview(results())
    assert len(table) == 4 and set(table.seed) == {0, 1}
    assert (table.m2g_best_of_random == 0.3).all() and (table.m2g_forbid_source == 0.2).all()


def beside_planted(**rates: float) -> Evidence:
    """Bases in which 15 % of the neurons differ, and one task whose neurons steer a retrain."""
    found = results()
    for task in found:
        for k in (0, 1):
            base = {"base_null": {"significant_share": [0.0, 0.3]}, "n_pairs": 50}
            found[task][k]["04_differentiation"] |= base
    counts = {"wins": 6, "n": 10, "control_wins": 2, "control_n": 10}
    about = {"task": "inference", "source": "x", "kind": "retrain", "own": False, "shared": True}
    cells = [
        about | {"seed": f"seed {k}", "direction": d, "key": key} | counts
        for k in (0, 1)
        for d in DIRECTIONS
        for key in "abc"
    ]
    given = evidence(found, **rates)
    return replace(given, transfers=pd.DataFrame([*cells, {**cells[0], "own": True, "wins": 0}]))


@pytest.mark.parametrize(
    "rates, name, claim",
    [
        ({}, "best random direction", "best_of_random"),
        ({"rephrasing_order": 0.6, "random_neurons": 0.5}, "words reordered", "rephrasing"),
        ({"forbid_source": 1.0}, "one token forbidden", "forbid"),  # and it is ahead
    ],
)
def test_every_task_stands_beside_its_strongest_control(rates, name, claim):
    given = beside_planted(**rates)
    asked = (*MAPS[:2], *(one for d in DIRECTIONS for one in beats(d)), TRANSFER[0])
    claims = judge_all(given, {"asked": asked})
    table = beside_controls(given)
    of = dict(iter(table.groupby("about")))
    assert {about: len(rows) for about, rows in of.items()} == {
        "maps": 2,
        "steering": 4,
        "retrains": 2,
    }
    assert set(of["maps"].control_name) == {"the same pairs in the base"}
    assert of["maps"].value.tolist() == pytest.approx([0.35] * 2)
    assert of["maps"].control.tolist() == pytest.approx([0.15] * 2)
    assert set(of["steering"].control_name) == {name}
    assert set(of["steering"].claim) == {f"steer_{d}.{claim}" for d in DIRECTIONS}
    retrains = of["retrains"].set_index("task")
    assert np.isnan(retrains.value["arithmetic-tagged"])
    assert (retrains.value["inference"], retrains.control["inference"]) == (0.6, 0.2)
    # the difference of the figure is the effect of the claim that it names
    cases = {one["id"]: one["cases"] for one in claims}
    for row in table[table.claim != ""].itertuples():
        assert cases[row.claim][row.task]["effect"] == pytest.approx(row.value - row.control)

    drawings = [every_task(table, claims, about) for about in ("maps", "steering", "retrains")]
    assert [one.name.rpartition("-")[2] for one in drawings] == ["maps", "steering", "retrains"]
    assert "inference: 35%, the same pairs in the base 15%, difference +0.20" in drawings[0].alt
    assert f"inference m2g: 88%, {name}" in drawings[1].alt
    assert "arithmetic-tagged: none" in drawings[2].alt and "nan" not in drawings[2].alt


def limited(found: dict, seed: int, direction: str) -> dict:
    """These results, and in one seed no cell that stays within the limit on lost free prompts."""
    for task in found:
        found[task][seed]["06_intervention"][direction]["kept_exists"] = False
    return found


def answers(**turned: int) -> pd.DataFrame:
    """Lab 06's answers of two keys, five prompts each, of which so many of each kind turn."""
    rows = [
        (d, kind, key, i < k)
        for d in DIRECTIONS
        for kind, k in turned.items()
        for key in "ab"
        for i in range(5)
    ]
    return pd.DataFrame(rows, columns=["direction", "kind", "key", "success"])


def test_without_a_cell_within_the_limit_the_method_and_controls_of_its_size_turn_nothing():
    """Planted: four of five prompts turn in both directions, in g2m at a price beyond the limit."""
    kinds = {"steered": 4, "steered_max": 4, "random_neurons": 2, BEST_OF_RANDOM: 3}
    kinds |= {"unembedding_all": 3, "forbid_source": 4, "force_target": 5, "rephrasing_order": 1}
    cells = {"m2g": {"kept_exists": True}, "g2m": {"kept_exists": False}}
    found = outcomes_by_key(answers(**kinds), cells)
    wins = found.groupby(["direction", "kind"]).wins.sum()
    assert wins["m2g"].to_dict() == {kind: 2 * k for kind, k in kinds.items()}
    untouched = {"forbid_source", "force_target", "rephrasing_order", "steered_max"}
    assert wins["g2m"].to_dict() == {
        kind: 2 * k if kind in untouched else 0 for kind, k in kinds.items()
    }
    run = found.groupby(["direction", "kind"]).unlimited.sum()
    assert (run["g2m"] == run["m2g"]).all() and (found.n == 5).all()


def test_a_seed_without_a_cell_counts_as_turning_none_and_is_counted():
    found = limited(results("inference"), 1, "g2m")
    given = evidence(found, random_neurons=0.4)
    sized = given.outcomes.kind.isin(["steered", BEST_OF_RANDOM, "random_neurons"])
    none = sized & (given.outcomes.seed == 1) & (given.outcomes.direction == "g2m")
    given.outcomes.loc[none, "wins"] = 0
    table = success_table(given).set_index(["direction", "kind"])
    assert table.rate["g2m", "steered"] == pytest.approx((4 / 10 + 0) / 2)
    assert (table.n_kept["g2m"] == 1).all() and (table.n_kept["m2g"] == 2).all()
    assert (table.n_seeds == 2).all()
    # of equal seeds without it the difference is zero, not that of a shift that nobody may make
    gap = beyond_control(given, "inference", "g2m", "random")
    (first,) = (
        rows[rows.kind == "steered"].wins.sum() - rows[rows.kind == "random_neurons"].wins.sum()
        for rows in [given.outcomes.query("direction == 'g2m' and seed == 0")]
    )
    assert gap.value == pytest.approx(first / 30 / 2) and gap.n_seeds == 2
    # what a random shift of that size does is a fact about the shift that was run
    assert random_success(given, "inference").value > 0.25
    row = overview(found).set_index("seed").loc[1]
    assert (row.g2m, row.g2m_kept, row.g2m_max, row.g2m_max_free) == (0, False, 0.5, 0.4)
    assert row.g2m_best_of_random == 0 and row.g2m_forbid_source == 0.2 and row.m2g == 0.9


def test_against_an_instruction_a_seed_without_a_cell_has_nothing_to_set():
    rates = {"steering": 0.8, "instruction": 0.5, "none": 0.1}
    asked = {d: {name: {"success": x, "n": 9} for name, x in rates.items()} for d in DIRECTIONS}
    given = evidence(results("inference"))
    for stages in list(given.results["inference"].values())[:2]:
        stages["11_open_points"] = {"instruction": asked}
    assert beyond_instruction(given, "inference").value == pytest.approx(0.4)
    limited(given.results, 0, "m2g")
    assert beyond_instruction(given, "inference").value == pytest.approx((0 + 0.4) / 2)


def told(given: Evidence) -> tuple[str, dict]:
    claims = [{"id": "beyond_words", "cases": {task: {"verdict": OPEN} for task in given.results}}]
    return headline(given, success_table(given), claims)


def test_the_main_finding_is_told_in_its_numbers_beside_what_it_is_held_against():
    text, number = told(evidence(results("arithmetic-tagged", "inference")))
    assert number["task"] == "inference"  # fixed beforehand, whatever the numbers
    assert number["rate"] == pytest.approx((0.9 + 26 / 30) / 2) and number["low"] < 0.88
    assert set(number["controls"]) == {BEST_OF_RANDOM, "forbid_source"}
    for said in ("88%", "28%", "18%", "arithmetic-tagged", "forbidding that mark alone"):
        assert said in text
    # an AUC stands beside what it has to beat, and is ahead of it where the ledger says so
    assert "AUC 0.95; the strongest forecast without this model's states 0.80; that it" in text
    assert text.count("by the ledger, open") == 1 and number["ahead"] == OPEN
    assert (number["auc"], number["auc_without"]) == pytest.approx((0.95, 0.8))
    assert "which 2 of 2 models can keep" in text and number["n_kept"] == 2
    assert number["counterpart"]["task"] == "arithmetic-tagged"
    text, few = told(evidence(limited(results("inference"), 0, "m2g")))
    assert "which 1 of 2 models can keep" in text and few["n_kept"] == 1
    alone, number = told(evidence(results("cipher-matched")))
    assert number["task"] == "cipher-matched" and "counterpart" not in number
    assert "mark" not in alone


def test_coverage_is_simulated_at_the_studys_own_numbers():
    given = evidence(results("inference", "cipher-matched"))
    found = simulated_coverage(given, 50)
    assert {row["task"] for row in found} == {"inference", "cipher-matched"}
    assert {row["quantity"] for row in found} == set(QUANTITIES)
    assert all(row["n_keys"] == 3 and 0.5 < row["covered"] <= 1 for row in found)
    assert set(designs(given, "inference").values()) == {Design(2, 3, 10), Design(2, 3, 8)}
    shared = replace(given, track="lora")
    assert designs(shared, "inference")["AUC"] == Design(2, 3, 8, shared_keys=True)
    tables = ("behaviors", "scores", "outcomes")
    one = {name: getattr(given, name).query("seed == 0") for name in tables}
    alone = replace(given, results={"inference": {0: seed()}}, **one)
    assert simulated_coverage(alone, 50) == []  # one seed has no interval


def test_figures_say_what_they_show():
    both = results("arithmetic-tagged", "arithmetic-matched")
    table, known = overview(both), {"value": 0.5, "low": 0.4, "high": None}
    numbers = {task: dict.fromkeys((*DIRECTIONS, "auc"), known) for task in both}
    numbers["arithmetic-matched"]["auc"] = dict.fromkeys(known)
    claim = {"name": "steering", "evidence": "inference 0.30.", "above": True, "threshold": 0.0}
    claim |= {"margin": 0.05, "group": "Steering, m2g"}
    case = {"effect": 0.3, "interval": [None, None], "verdict": OPEN}
    claims = [claim | {"cases": {"inference": case}}, claim | {"cases": {}}]
    steering = success_table(evidence(both))
    drawn = {
        "main-finding": main_finding(steering, mean_auc(table)),
        "gate": gate(table),
        "format": formats(numbers, ["arithmetic"]),
        "ledger": verdicts(claims),
        "ledger-steering-m2g": forest(claims, "Steering, m2g"),
    }
    assert {one.name for one in drawn.values()} == set(drawn)
    assert "arithmetic-tagged seed 1: memory 0.40, rule 0.50" in drawn["gate"].alt
    assert "arithmetic m2g: 0.50 against 0.50" in drawn["format"].alt
    assert "auc: 0.50 against undefined" in drawn["format"].alt
    assert drawn["ledger"].alt.endswith("steering: inference open.")
    assert drawn["ledger-steering-m2g"].alt.endswith("steering: inference 0.30.")
    assert drawn["main-finding"].alt == describe(steering, mean_auc(table))
    assert all(one.caption.endswith(".") for one in drawn.values())
    assert "may train for more steps" in drawn["format"].caption
    labels = [label.get_text() for label in drawn["main-finding"].figure.axes[0].get_yticklabels()]
    assert "arithmetic tagged\nAUC 0.95\nwithout states 0.80" in labels
    assert "star" not in drawn["main-finding"].caption
    few = success_table(evidence(limited(both, 1, "g2m")))
    starred = main_finding(few, mean_auc(table))
    assert "arithmetic-tagged, generalization to memorization: 1 of 2" in starred.caption
    assert "arithmetic-tagged, generalization to memorization: 1 of 2" in starred.alt
    stars = [[t.get_text().count("*") for t in ax.texts] for ax in starred.figure.axes]
    assert [sum(of) for of in stars] == [0, 2]  # of g2m, one a task


def test_numbers_stand_clear_of_bars_and_intervals():
    figure = main_finding(success_table(evidence(results())), mean_auc(overview(results()))).figure
    figure.canvas.draw()
    inverse = [ax.transData.inverted() for ax in figure.axes]
    for ax, back in zip(figure.axes, inverse, strict=True):
        ends = [back.transform(t.get_window_extent())[:, 0] for t in ax.texts]
        assert ends and min(left for left, _ in ends) > 1  # no share lies beyond 1
        assert max(right for _, right in ends) < ax.get_xlim()[1]
        ticks = [t.get_window_extent() for t in ax.get_xticklabels() if t.get_text()]
        assert all(a.x1 < b.x0 for a, b in zip(ticks, ticks[1:]))
    ticks = [
        t.get_window_extent() for ax in figure.axes for t in ax.get_xticklabels() if t.get_text()
    ]
    assert all(a.x1 < b.x0 for a, b in zip(ticks, ticks[1:]))


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
FIRST_ALONE = [name for name, row in LABS.items() if row.seeds == "first"]
LATER_RESULTS = {
    "13_scoreboard": board(),
    "14_detection": detection(),
    "15_correlates": correlates(),
    "16_multiverse": multiverse(),
}


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
                "lens": {"gain_before": None, "n": 0, "before_answer": None},
                "instruction": None,
            }
            | LATER_RESULTS.get(folder.name, {}),
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
                    "seed": int(t.removeprefix("seed ")),  # of the steered model
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
    assert found.later == {"inference": ([0.5, 0.5], 2)}  # the top two are in the middle layer


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
    beats = found["steer_m2g.other_neurons"]
    # eight prompts of two seeds: every one changes sides, and it is too few to say so
    assert beats["effect"] == 1.0 and beats["verdict"] == OPEN and beats["n"] == 8
    assert found["predictable"]["effect"] == 1.0 and found["retrain"]["cases"] == {}
    assert found["stranger"]["cases"]["inference"]["n"] == 8
    assert found["emerges"]["cases"] and not found["taught"]["cases"]  # no key was taught
    assert found["instruction"]["verdict"] == found["before_answer"]["verdict"] == OPEN
    numbers = main_numbers(read_evidence(runs))["inference"]
    values = {name: x["value"] for name, x in numbers.items()}
    assert values == {"memory": 0.5, "rule": 0.25, "auc": 1.0, "m2g": 1.0, "g2m": 1.0}
    counts = {name: numbers["m2g"][name] for name in ("n", "n_keys", "n_seeds")}
    assert counts == {"n": 8, "n_keys": 4, "n_seeds": 2}


def test_the_evidence_labs_belong_to_the_track_from_scratch(runs):
    labs = set(labs_of("run", "scratch")) - set(labs_of("run", "lora"))
    read = labs & {folder.name for folder in input_folders("08_synthesis", runs)}
    assert read == labs >= {"09_confounds", "12_patching", *LATER}
    adapters = runs.model_copy(update={"track": "lora"})
    assert not labs & {folder.name for folder in input_folders("08_synthesis", adapters)}


def test_of_a_lab_for_the_first_seed_alone_it_reads_no_other(runs):
    for order in ([0, 2], [2, 0]):  # the first is the one that was named first
        p = runs.model_copy(update={"seeds": order})
        folders = [f for f in input_folders("08_synthesis", p) if f.name in FIRST_ALONE]
        assert {f.parent.name for f in folders} == {f"seed{order[0]}"}
        assert len(folders) == len(FIRST_ALONE)
    found = {claim["id"]: claim for claim in judge_all(read_evidence(runs), GROUPS)}
    for name in ("control_apart", "stable_neurons"):
        (case,) = found[name]["cases"].values()
        assert (case["n_seeds"], case["verdict"], case["interval"]) == (1, OPEN, [None, None])


def test_a_study_from_before_the_later_labs_is_judged_without_them(runs):
    """Their claims say that there is nothing to test them on; a lab of before may not be missing."""
    folders = input_folders("08_synthesis", runs)
    later = [folder for folder in folders if folder.name in LATER]
    assert len(later) == 6 and there(folders) == folders  # two labs of two seeds, two of the first
    for folder in later:
        shutil.rmtree(folder)
    assert there(folders) == [folder for folder in folders if folder not in later]
    found = {claim["id"]: claim for claim in judge_all(read_evidence(runs), GROUPS)}
    for claim in (*RIVALS, *MULTIVERSE):
        assert (found[claim.id]["verdict"], found[claim.id]["cases"]) == (OPEN, {})
    assert found["predictable"]["effect"] == 1.0
    shutil.rmtree(folders[0])
    with pytest.raises(ArtifactError, match="result.json is missing"):
        read_evidence(runs)


def test_the_claims_on_rivals_come_from_the_files_of_labs_13_and_14(runs):
    found = {claim["id"]: claim for claim in judge_all(read_evidence(runs), GROUPS)}
    board_, box = found["board_g2m.caa"], found["black_box"]
    assert (board_["effect"], board_["n"]) == (pytest.approx(0.2), 200)
    assert box["effect"] == pytest.approx(0.2) and box["cases"]["inference"]["n_keys"] == 24
    assert found["edit_matched"]["cases"] == {}  # of inference


def test_tables_for_the_page_have_a_row_per_number_and_claim(runs):
    evidence = read_evidence(runs)
    claims = judge_all(evidence, GROUPS)
    numbers = numbers_table(main_numbers(evidence))
    assert list(numbers.quantity) == ["memory", "rule", "auc", "m2g", "g2m"]
    shown = claims_table(claims)
    assert list(shown.verdict) == [claim["verdict"] for claim in claims]
    assert list(shown)[0] == "claim" and list(shown)[-1] == "effect and interval by task"
