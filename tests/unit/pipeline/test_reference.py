"""The comparison with the reference: equal runs agree, and every kind of difference is named."""

from __future__ import annotations

import copy

import pytest

from memgen.pipeline.cli import main
from memgen.pipeline.reference import TOLERANCE, compare, key_numbers, record, reference_file
from memgen.stages import labs_of
from memgen.store.files import read_json, write_json


def steered(success: float) -> dict:
    return {"success": success, "controls": {"random_neurons": 0.2}}


STAGES = {
    "02_training": {"memory_rate": 0.4, "rule_rate": 0.5, "other_rate": 0.1, "free_accuracy": 0.97},
    "05_prediction": {"best_auc": 0.9, "prompt_only_auc": None},
    "06_intervention": {"m2g": steered(0.9), "g2m": steered(0.5)},
}


@pytest.fixture
def home(tmp_path):
    """A finished study of one task and two seeds on two tracks."""
    home = tmp_path / "runs" / "laptop"
    for folder in (home, home / "lora"):
        synthesis = folder / "study" / "all" / "08_synthesis"
        synthesis.mkdir(parents=True)
        write_json(
            synthesis / "result.json",
            {
                "seeds": [0, 1],
                "tasks": ["inference"],
                "claims": [{"id": "dual", "verdict": "supported"}],
            },
        )
        write_json(
            synthesis / "manifest.json",
            {
                "versions": {"torch": "2"},
                "machine": {"cores": 2, "processor": "x"},
                "parameters": {},
            },
        )
        for seed in (0, 1):
            for stage in labs_of("run", "lora"):
                (folder / "inference" / f"seed{seed}" / stage).mkdir(parents=True)
                write_json(
                    folder / "inference" / f"seed{seed}" / stage / "result.json",
                    STAGES.get(stage, {}),
                )
    return home


def test_a_run_agrees_with_itself(home, tmp_path):
    record(home, tmp_path / "reference" / "key_numbers.json")
    reference = read_json(tmp_path / "reference" / "key_numbers.json")
    assert set(reference["tracks"]) == {"scratch", "lora"} and reference["versions"] == {
        "torch": "2"
    }
    numbers = reference["tracks"]["lora"]["numbers"]["inference"]["1"]
    assert (
        numbers["m2g"] == 0.9
        and numbers["m2g_random"] == 0.2
        and numbers["prompt_only_auc"] is None
        and set(numbers) == set(TOLERANCE)
    )
    assert compare(reference, key_numbers(home)) == ([], [])


def test_what_differs_is_named(home, tmp_path):
    record(home, tmp_path / "key_numbers.json")
    reference, found = read_json(tmp_path / "key_numbers.json"), key_numbers(home)
    for seed, success in (("0", 0.9), ("1", 0.4)):  # mean 0.65: 0.25 away
        found["scratch"]["numbers"]["inference"][seed]["m2g"] = success
    found["lora"]["claims"]["dual"] = "contradicted"
    numbers, verdicts = compare(reference, found)
    assert numbers == [
        "scratch, inference: m2g is 0.65, the reference 0.90 (tolerance 0.20, mean of 2 seeds)"
    ]
    assert verdicts == ["lora: the verdict on 'dual' is contradicted, in the reference supported"]
    undefined = copy.deepcopy(key_numbers(home))
    undefined["scratch"]["numbers"]["inference"] = {"0": dict.fromkeys(TOLERANCE)}
    assert (
        len(compare(reference, undefined)[0]) == len(TOLERANCE) - 1
    )  # a number that is gone is a difference; one that never was, is none


def test_portable_numbers_have_to_be_equal(home, tmp_path):
    record(home, tmp_path / "key_numbers.json")
    reference, found = read_json(tmp_path / "key_numbers.json"), key_numbers(home)
    assert compare(reference, found, exact=True) == ([], [])
    found["scratch"]["numbers"]["inference"]["1"]["auc"] = 0.9 + 1e-9
    assert compare(reference, found) == ([], [])
    assert compare(reference, found, exact=True)[0] == [
        "scratch, inference, seed 1: auc is 0.900000001, the reference 0.9"
    ]


def test_the_command(home, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(
        "memgen.pipeline.reference.reference_file",
        lambda preset: tmp_path / "reference" / preset / "key_numbers.json",
    )
    arguments = ["--runs", str(home.parent)]
    assert (
        main(["verify", "check", *arguments]) == 1
        and "key_numbers.json is missing" in capsys.readouterr().err
    )
    assert (
        main(["verify", "record", *arguments]) == 0 and main(["verify", "check", *arguments]) == 0
    )
    said = capsys.readouterr().out
    assert "verdicts that changed: 0" in said and "another processor is another draw" in said
    result = home / "study" / "all" / "08_synthesis" / "result.json"
    write_json(result, read_json(result) | {"claims": [{"id": "dual", "verdict": "open"}]})
    assert (
        main(["verify", "check", *arguments]) == 1 and "'dual' is open" in capsys.readouterr().out
    )
    assert (
        main(["verify", "check", "--runs", str(tmp_path / "nowhere")]) == 1
        and "holds no finished study" in capsys.readouterr().err
    )


def test_nothing_in_common_is_no_agreement(home, capsys, monkeypatch, tmp_path):
    file = tmp_path / "key_numbers.json"
    monkeypatch.setattr("memgen.pipeline.reference.reference_file", lambda preset: file)
    record(home, file)
    about = read_json(file)
    for track in about["tracks"].values():
        track["numbers"] = {"inference": {"7": {}}}
    write_json(file, about)
    assert main(["verify", "check", "--runs", str(home.parent)]) == 1
    assert "no task and seed in common" in capsys.readouterr().err


def test_the_reference_lies_in_the_repository():
    assert reference_file("laptop").parts[-4:] == (
        "data",
        "reference",
        "laptop",
        "key_numbers.json",
    )
