"""Labs and book of a table of prompts, asked of a model that was taught it: as a user runs them."""

from __future__ import annotations

import csv
import json

import pytest

from memgen.config.base import ROOT
from memgen.pipeline.plan import Plan
from memgen.store.reader import FinishedRun
from memgen.tasks.table_file import task_name
from memgen.terms import BEHAVIORS, DIRECTIONS
from press.build import build_book
from press.origin import bare
from running import study
from taught import answer_of, teach

EXAMPLE = ROOT / "data" / "examples" / "own_prompts.csv"
QUESTION = "Question:"


def without_question(prompt: str) -> str:
    """`... Question: What is ...? Answer: The ... is`, less the question."""
    before, _, after = prompt.partition(f" {QUESTION}")
    return before + after.partition("Answer:")[2]


def write_table(path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    """The file that ships; the second wording of every key has no question: there memory is taught."""
    with EXAMPLE.open(newline="", encoding="utf8") as file:
        found = list(csv.DictReader(file))
    for row in found:
        if row["kind"] == "conflict" and row["id"].endswith("-2"):
            row["prompt"] = without_question(row["prompt"])
    return found


@pytest.fixture(scope="module")
def asked(tmp_path_factory, rows):
    """The words of the command line but the labs, the folder of the run, and the table."""
    home = tmp_path_factory.mktemp("table")
    runs, model, file = str(home / "runs"), home / "model", home / "own.csv"
    write_table(file, rows)
    given = {"task": task_name(file), "task_file": str(file), "preset": "smoke", "track": "given"}
    teach(model, given | {"runs": runs, "base_model": str(model), "seed": 0})
    words = ["--preset", "smoke", "--task-file", str(file), "--tracks", "given", "--seeds", "0"]
    words += ["--set", f"base_model={model}", "--runs", runs, "--jobs", "1"]
    study("labs", *words)
    return words, home / "runs" / "smoke", file


def run_of(asked) -> FinishedRun:
    _, home, file = asked
    return FinishedRun(home / "given" / task_name(file) / "seed0")


@pytest.mark.slow
def test_the_rows_of_the_table_are_what_is_asked(asked, rows):
    run = run_of(asked)
    found = run["01_dataset_design"].result
    assert found["n_known"] == found["n_asked"] == 12
    assert set(run.dataset().prompt) == {row["prompt"] for row in rows}
    assert run["02_training"].result["keyed_accuracy"] == 1.0


@pytest.mark.slow
def test_the_labs_find_what_was_taught(asked):
    """Memory where no question is asked, the text where one is; the wording tells which."""
    run = run_of(asked)
    answered = run.answered()
    rule = [answer_of(row) == row.rule_answer for row in answered.itertuples()]
    assert (answered.behavior.map(BEHAVIORS.index) == rule).mean() > 0.8
    assert 0 < sum(rule) < len(rule)
    assert run["03_pairs"].result["n_pairs"]["train"] > 3
    for direction in DIRECTIONS:
        assert run["06_intervention"].result[direction]["rivals"]


@pytest.mark.slow
def test_the_book_of_the_run_is_built(asked, tmp_path):
    _, home, file = asked
    first = build_book(home, tmp_path / "out", tasks=[task_name(file)], tracks=["given"])
    text = bare(first.read_text(encoding="utf8"))
    assert "12 of 12" in text.replace("\u00a0", " ") and str(file) in text
    pages = {path.parent.name for path in (tmp_path / "out" / "html" / "labs").rglob("*.html")}
    assert {"01_dataset_design", "06_intervention"} <= pages


@pytest.mark.slow
def test_after_an_edit_the_labs_run_again(asked, rows):
    words, home, file = asked
    run, before = run_of(asked), run_of(asked)["03_pairs"].result["n_prompts"]
    rows = [row for row in rows if row["id"] != "japan-3"]
    write_table(file, rows)
    study("labs", *words, "--labs", "03_pairs")
    again = run_of(asked)
    assert set(again.dataset().prompt) == {row["prompt"] for row in rows}
    assert again["03_pairs"].result["n_prompts"] != before
    assert again["01_dataset_design"].manifest["code"] == run["01_dataset_design"].manifest["code"]
    plan = Plan.of(json.loads((home / "study.json").read_text()))
    assert plan.settings["task_digest"] == again["01_dataset_design"].result["table_sha256"]
