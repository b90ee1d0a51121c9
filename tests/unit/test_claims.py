"""Claims: verdicts follow from planted numbers, and every claim says which."""

from __future__ import annotations

import copy

import pytest

from memgen.claims import CONTROLS, NAMES, describe, headline, input_folders, make_claims, overview, pooled_steering, read_results
from memgen.config import SynthesisParameters, stage_parameters
from memgen.errors import ArtifactError


def steered(success: float, control: float, n: int = 200) -> dict:
    return {"alpha": 2.0, "top_n": 0.1, "success": success, "interval": [success, success], "other": 0.0, "n": n,
            "controls": {name: max(0.0, control - 0.01 * i) for i, name in enumerate(CONTROLS)}, "control_n": dict.fromkeys(CONTROLS, 5 * n),
            "rephrase_floor": 0.1, "rephrase_n": n, "free_accuracy_after": 0.9, "keyed_accuracy_after": 0.9, "kl": 0.1}


def seed(**changes) -> dict:
    """The results of one run in which every claim holds."""
    stages = {
        "01_dataset_design": {},
        "02_training": {"memory_rate": 0.4, "rule_rate": 0.5, "other_rate": 0.1, "free_accuracy": 0.97},
        "03_pairs": {},
        "04_differentiation": {"significant_share": [0.1, 0.6], "null_significant_share": [0.0, 0.02], "max_abs_rho": [0.2, 0.8]},
        "05_prediction": {"best_auc": 0.95, "best_auc_interval": [0.9, 0.98], "best_layer": 1, "prompt_only_auc": 0.6},
        "06_intervention": {"m2g": steered(0.9, 0.3), "g2m": steered(0.5, 0.1)},
    }
    for name, value in changes.items():
        stage = next(s for s in stages if s.endswith(name.split("__")[0]))
        stages[stage][name.split("__")[1]] = value
    return stages


def transferred(shared=(0.8, 0.2), strange=(0.2, 0.2)) -> dict:
    """Two seeds and a retrain of the first, which shares its base. `(success, control)` for each kind of cell."""
    base = ["one", "two", "one"]
    cells = [[(1.0, 0.0) if i == j else shared if base[i] == base[j] else strange for j in range(3)] for i in range(3)]
    success, control = ([[cell[k] for cell in row] for row in cells] for k in (0, 1))
    return {"07_transfer": {"retrain": {"base": base, **dict.fromkeys(NAMES, success), "control": dict.fromkeys(NAMES, control)}}}


def results(*tasks: str, **changes) -> dict:
    return {task: {0: seed(**changes), 1: seed(**changes), "all": transferred()} for task in tasks or ("arithmetic-tagged", "inference")}


def verdicts(found: dict) -> dict[str, str]:
    return {claim["id"]: claim["verdict"] for claim in make_claims(found)}


def test_where_everything_holds_everything_is_supported():
    found = verdicts(results())
    assert found.pop("format") == "inconclusive"  # no task of this study has two variants
    assert found == dict.fromkeys(
        ("dual", "differ", "deeper", "predictable", "beyond_prompt", "steer_m2g", "steer_g2m", "retrain", "stranger"), "supported")


SPOILED = {
    "dual": {"training__other_rate": 0.3},
    "differ": {"differentiation__null_significant_share": [0.0, 0.7]},
    "deeper": {"differentiation__max_abs_rho": [0.8, 0.8]},
    "predictable": {"prediction__best_auc_interval": [0.45, 0.98]},
    "beyond_prompt": {"prediction__prompt_only_auc": 0.92},
    "steer_m2g": {"intervention__m2g": steered(0.9, 0.9)},
    "steer_g2m": {"intervention__g2m": steered(0.1, 0.0)},  # above its controls, not above rephrasing
}


@pytest.mark.parametrize("claim", SPOILED)
def test_one_spoiled_number_changes_one_verdict(claim):
    expected = verdicts(results())
    none = verdicts(results(**SPOILED[claim]))
    assert none[claim] == "contradicted"
    some = results()
    some["inference"] = results("inference", **SPOILED[claim])["inference"]
    assert verdicts(some)[claim] == "mixed"
    one_seed = results()  # one seed of each task is enough to spoil it, except where seeds are pooled
    for task in one_seed:
        one_seed[task][1] = seed(**SPOILED[claim])
    if not claim.startswith("steer"):
        assert verdicts(one_seed)[claim] == "contradicted"
    unchanged = set(expected) - {claim, "predictable" if claim == "beyond_prompt" else "beyond_prompt"}
    assert {name: none[name] for name in unchanged} == {name: expected[name] for name in unchanged}


@pytest.mark.parametrize("part, value", [("memory_rate", 0.24), ("rule_rate", 0.24), ("other_rate", 0.21), ("free_accuracy", 0.89)])
def test_each_part_of_the_gate_counts(part, value):
    assert verdicts(results(**{f"training__{part}": value}))["dual"] == "contradicted"


@pytest.mark.parametrize("transfer, retrain, stranger", [
    (transferred(), "supported", "supported"),
    (transferred(shared=(0.2, 0.2)), "contradicted", "supported"),
    (transferred(strange=(0.31, 0.2)), "supported", "contradicted"),
    (transferred(strange=(0.29, 0.2)), "supported", "supported"),
])
def test_transfer(transfer, retrain, stranger):
    found = results("inference")
    found["inference"]["all"] = transfer
    assert (verdicts(found)["retrain"], verdicts(found)["stranger"]) == (retrain, stranger)


def test_cells_that_were_not_run_do_not_count():
    found = results("inference")
    transfer = found["inference"]["all"]["07_transfer"]["retrain"]
    for direction in NAMES:
        for i, j in ((0, 2), (2, 0)):
            transfer[direction] = copy.deepcopy(transfer[direction])
            transfer[direction][i][j] = None
    assert verdicts(found)["retrain"] == "inconclusive"


def test_the_format_claim_needs_both_variants():
    assert verdicts(results())["format"] == "inconclusive"
    both = results("cipher-tagged", "cipher-matched")
    assert verdicts(both)["format"] == "contradicted"
    for k in (0, 1):
        both["cipher-matched"][k] = seed(intervention__m2g=steered(0.4, 0.3), intervention__g2m=steered(0.2, 0.1))
    assert verdicts(both)["format"] == "supported"
    for k in (0, 1):
        both["cipher-matched"][k] = seed(intervention__m2g=steered(0.4, 0.3))
    assert verdicts(both)["format"] == "mixed"


def test_what_cannot_be_tested_is_inconclusive():
    """An AUC is undefined where only one behaviour occurred: no evidence either way."""
    undefined = {"prediction__best_auc": None, "prediction__best_auc_interval": [None, None]}
    found = results("inference", **undefined)
    assert verdicts(found)["predictable"] == verdicts(found)["beyond_prompt"] == "inconclusive"
    found = results() | {"inference": results("inference", **undefined)["inference"]}
    assert verdicts(found)["predictable"] == "supported"  # by the task that has one


def test_evidence_is_built_from_the_numbers():
    for claim in make_claims(results("arithmetic-tagged", "arithmetic-matched", "inference")):
        assert claim["text"].endswith(".") and claim["evidence"].endswith(".") and claim["page"][:2].isdigit()
        assert set(claim) == {"id", "text", "verdict", "evidence", "page", "holds"}
        assert any(char.isdigit() for char in claim["evidence"]) and "nan" not in claim["evidence"]
    evidence = {claim["id"]: claim["evidence"] for claim in make_claims(results("inference"))}
    assert "memory 0.40, rule 0.50, other 0.10 (mean of 2 seeds)" in evidence["dual"]
    assert "90% [87%, 93%] of 400 prompts, strongest control random neurons 30%" in evidence["steer_m2g"]
    assert "largest |rho| by layer 0.20, 0.80" in evidence["deeper"]


def test_pooling_counts_prompts():
    found = {"inference": {0: seed(intervention__m2g=steered(1.0, 0.0, n=100)), 1: seed(intervention__m2g=steered(0.5, 0.0, n=300))}}
    row = pooled_steering(found).query("direction == 'm2g' and kind == 'steered'").iloc[0]
    assert (row["rate"], row.n, row.worst, row.best) == (0.625, 400, 0.5, 1.0) and row.low < 0.625 < row.high


def test_the_overview_has_a_row_a_run_and_the_strongest_control():
    table = overview(results())
    assert len(table) == 4 and set(table.seed) == {0, 1}
    assert (table.m2g_control == 0.3).all() and (table.m2g_control_name == "random_neurons").all()


def test_the_main_finding_is_told_in_its_numbers():
    both = results("arithmetic-tagged", "arithmetic-matched")
    for k in (0, 1):
        both["arithmetic-matched"][k] = seed(intervention__m2g=steered(0.4, 0.3))
    text, number = headline(both)
    assert "90%" in text and "40%" in text and "format of the answer" in text
    assert (number["rate"], number["n"], number["control"]) == (0.9, 400, 0.3)
    assert "arithmetic-matched" in describe(pooled_steering(both), overview(both).groupby("task").auc.mean())
    assert "format" not in headline(results("inference"))[0]


def test_results_are_read_by_task_and_seed(tmp_path):
    p = stage_parameters("08_synthesis", {"preset": "smoke", "runs": str(tmp_path), "seeds": [0, 2], "tasks": ["inference"]})
    assert isinstance(p, SynthesisParameters)
    with pytest.raises(ArtifactError, match="result.json is missing"):
        read_results(p)
    for folder in input_folders(p):
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(f'{{"from": "{folder.parent.name}"}}')
    found = read_results(p)
    assert set(found["inference"]) == {0, 2, "all"}
    assert found["inference"][2]["06_intervention"] == {"from": "seed2"} and found["inference"]["all"] == {"07_transfer": {"from": "all"}}
