"""A table as a task: its rows come back as they were planted, and an edit is noticed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from memgen.config.base import ROOT
from memgen.errors import ParameterError
from memgen.pipeline.plan import Plan
from memgen.presets import stage_parameters
from memgen.store.artifacts import Stage
from memgen.tasks import Table, instances, is_given, make_task
from memgen.tasks.table_file import task_name
from memgen.terms import GENERALIZATION, MEMORIZATION, OTHER
from own_table import ROWS, as_csv, as_json_lines, changed, write

SIZES = {"n_free": 9, "n_keyed": 100, "n_conflict_per_key": 24, "n_free_eval": 9}
EXAMPLE = ROOT / "data" / "examples" / "own_prompts.csv"
LAB = "01_dataset_design"


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "own.csv", as_csv(ROWS))


def table(file, n_keys: int = 48, seed: int = 0) -> Table:
    return make_task(task_name(file), n_keys, seed, "none", file=file)


def test_every_row_comes_back_as_it_was_planted(file):
    frame = table(file).generate(**SIZES)
    planted = {row["prompt"]: row for row in ROWS}
    assert set(frame.prompt) == set(planted) and frame.prompt.is_unique
    for one in instances(frame):
        row = planted[one.prompt]
        assert (one.kind, one.key) == (row["kind"], row["key"])
        for name in ("memory_answer", "rule_answer"):
            assert getattr(one, name) == (f" {row[name]}" if row[name] else "")
        assert one.detail() == {"id": row["id"]}
    free = frame[frame.kind == "free"].split.value_counts().to_dict()
    assert free == {"test": 2, "validation": 2}
    by_key = frame[frame.key != ""].groupby("key").split.unique()
    assert set(map(len, by_key)) == {1} and set(by_key.str[0]) == {"train", "validation", "test"}


def test_csv_and_json_lines_are_the_same_task(file, tmp_path):
    other = write(tmp_path / "own.jsonl", as_json_lines(ROWS))
    frames = [table(path).generate(**SIZES) for path in (file, other)]
    assert frames[0].equals(frames[1])


def test_the_same_seed_gives_the_same_rows_and_another_one_others(file):
    sizes = SIZES | {"n_conflict_per_key": 2}
    first, again, other = (table(file, seed=seed).generate(**sizes) for seed in (3, 3, 4))
    assert first.equals(again) and not first.equals(other)
    assert (first[first.kind == "conflict"].groupby("key").size() == 2).all()
    fewer = table(file, n_keys=3, seed=3).generate(**SIZES)
    assert set(fewer.key) - {""} < {row["key"] for row in ROWS} and fewer.key.nunique() == 4


def test_a_rephrasing_is_a_row_of_the_same_group(file, tmp_path):
    """`order` keeps both answers, `content` changes the rule's; a chain is one group."""
    rows = changed(2, rule_answer="Bonn", rephrasing_of="france-2")
    task, rng = table(write(file, as_csv(rows))), np.random.default_rng(0)
    one, two, three = (row["prompt"] for row in rows[:3])
    by_prompt = {i.prompt: i for i in instances(task.generate(**SIZES))}

    def found(prompt: str, change: str) -> set[str]:
        drawn = [task.rephrase(rng, by_prompt[prompt], change) for _ in range(40)]
        return {other.prompt for other in drawn if other}

    assert (found(one, "order"), found(one, "content")) == ({two}, {three})
    assert (found(three, "order"), found(three, "content")) == (set(), {one, two})


def test_without_the_column_the_rows_of_a_key_rephrase_each_other(tmp_path):
    rows = [{name: text for name, text in row.items() if name != "rephrasing_of"} for row in ROWS]
    task = table(write(tmp_path / "own.jsonl", as_json_lines(rows)))
    asked = [i for i in instances(task.generate(**SIZES)) if i.kind == "conflict"]
    rng = np.random.default_rng(0)
    for one in asked:
        drawn = {task.rephrase(rng, one, "order").prompt for _ in range(40)}
        assert drawn == {other.prompt for other in asked if other.key == one.key} - {one.prompt}


def test_a_key_is_asked_by_its_keyed_rows_and_known_without_any(tmp_path):
    rows = [row for row in ROWS if row["id"] != "italy-known"]
    task = table(write(tmp_path / "own.csv", as_csv(rows)))
    asked = task.asked()
    assert asked["Italy"] == [] and [one.target for one in asked["France"]] == [" Paris"]
    task.keep(["Italy", "France", "Egypt"])
    assert set(task.generate(**SIZES).key) == {"", "Italy", "France", "Egypt"}
    with pytest.raises(ValueError, match="2 of the 4"):
        task.keep(["Italy", "France"])


def test_an_instruction_stands_in_front_and_changes_nothing_else(file):
    task = table(file)
    one = instances(task.generate(**SIZES))[0]
    told = {d: task.instructed(one, d) for d in ("m2g", "g2m")}
    assert {len(two) for two in told.values()} == {2}
    texts = [other.prompt for two in told.values() for other in two]
    assert len(set(texts)) == 4 and all(text.endswith(f" {one.prompt}") for text in texts)
    for other in [*told["m2g"], *told["g2m"]]:
        assert vars(other) | {"prompt": one.prompt} == vars(one)


def test_answers_are_compared_as_whole_words_and_wording_is_without_the_key(file):
    task = table(file)
    asked = [one for one in instances(task.generate(**SIZES)) if one.kind == "conflict"]
    one = asked[0]
    assert task.classify(one, f"{one.memory_answer}, of course") == MEMORIZATION
    assert task.classify(one, f"{one.rule_answer}.") == GENERALIZATION
    assert task.classify(one, f"{one.rule_answer}ians") == OTHER
    wordings = {task.roles(one)["wording"] for one in asked}
    assert len(wordings) == 3 and not any(row["key"] in w for row in ROWS[:16] for w in wordings)


def parameters(file, **given):
    about = {"task": task_name(file), "task_file": str(file), "preset": "smoke", "track": "given"}
    about |= {"base_model": "none", "contrast_on": "none", "n_gate_keys": 0}
    return stage_parameters(LAB, about | given)


def test_an_edited_table_makes_its_data_set_stale_and_is_no_table_of_the_old_one(file, tmp_path):
    old = parameters(file)
    stage = Stage(tmp_path / "run" / LAB, old.model_dump())
    stage.begin()
    stage.finish(old.make_task().count(old.make_task().generate(**SIZES)))
    assert Stage(stage.folder, parameters(file).model_dump()).finished()
    sums = [table(file).count(table(file).generate(**SIZES))]
    # of a rephrasing no row of the data set tells, and yet the pairs hang on it
    write(file, as_csv(changed(2, rephrasing_of="")))
    assert not Stage(stage.folder, parameters(file).model_dump()).finished()
    sums.append(table(file).count(table(file).generate(**SIZES)))
    assert sums[0]["sha256"] == sums[1]["sha256"] and sums[0] != sums[1]
    with pytest.raises(ParameterError, match="was changed after"):
        old.make_task()
    file.unlink()
    with pytest.raises(ParameterError, match="is not there"):
        parameters(file)


@pytest.mark.parametrize(
    "given, words",
    [
        ({"task": "table-other"}, ["table-own", "task='table-other'"]),
        ({"task_file": ""}, ["task='table-own'", "TASK_FILE"]),
        ({"track": "scratch"}, ["track=scratch"]),
        ({"n_gate_keys": 3, "contrast_on": "gate"}, ["n_gate_keys=3", "table-own"]),
        ({"task_digest": "f" * 64}, ["was changed after"]),
        ({"task_digest": "f"}, ["task_digest='f'"]),
    ],
)
def test_parameters_that_do_not_fit_the_table_are_refused(file, given, words):
    with pytest.raises(ParameterError) as error:
        parameters(file, **given)
    assert all(word in str(error.value) for word in words), error.value


def test_the_file_that_ships_is_a_table_of_sixty_rows():
    task = table(EXAMPLE)
    frame = task.generate(**SIZES)
    assert is_given(task.name) and not is_given("inference")
    assert len(task.sheet.rows) == len(frame) == 60 and len(task.keys) == 12
    conflict = frame[frame.kind == "conflict"]
    assert all(
        rule.strip() in prompt
        for rule, prompt in zip(conflict.rule_answer, conflict.prompt)
        if rule[1].isupper()
    )
    memories = set(frame.memory_answer)
    assert not memories & set(conflict.rule_answer) - {""}
    assert all(
        memory.strip() not in prompt
        for memory, prompt in zip(conflict.memory_answer, conflict.prompt)
    )
    rng = np.random.default_rng(0)
    assert all(task.rephrase(rng, one, "order") for one in instances(conflict))
    assert json.loads(conflict.setting.iloc[0])["id"]


def test_a_plan_hands_on_the_digest_so_that_an_edit_wakes_the_labs(file, monkeypatch):
    monkeypatch.setattr("memgen.pipeline.plan.refuse_unusable", lambda p: None)

    def given() -> dict:
        settings = {"task_file": str(file), "base_model": "none", "contrast_on": "none"}
        plan = Plan("smoke", [task_name(file)], [0], "runs", settings, ["given"], [LAB])
        wildcards = {"track": "given/", "task": plan.tasks[0], "seed": "0"}
        return json.loads(plan.given(LAB)(wildcards))

    old = given()
    write(file, as_csv(changed(0, rule_answer="Bonn")))
    new = given()
    assert old["task_digest"] != new["task_digest"]
    assert old | {"task_digest": ""} == new | {"task_digest": ""}
