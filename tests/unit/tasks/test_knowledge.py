"""Knowledge against context: every fact is valid, no answer leaks into another split, and prompts say
what they are made of. Truths are read off the texts of prompts, not off their settings.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from itertools import product

import numpy as np
import pytest

from memgen.tasks import instances, make_task, wordings
from memgen.tasks.facts import TABLE, Fact, clusters, facts, idle, read, splits
from memgen.tasks.knowledge import SHARES, Knowledge
from memgen.terms import CHANGES, GENERALIZATION, MEMORIZATION, OTHER, SPLITS

SIZES = {"n_free": 60, "n_keyed": 240, "n_conflict_per_key": 5, "n_free_eval": 15}
by_either = pytest.mark.parametrize("split_by", ["key", "relation"])


@pytest.fixture(scope="module")
def made():
    """`{(split_by, seed): (task, data set)}` of 80 keys, three seeds, both ways of splitting."""
    found = {}
    for split_by, seed in product(("key", "relation"), range(3)):
        task = make_task("knowledge", 80, seed, split_by=split_by)
        found[split_by, seed] = task, task.generate(**SIZES)
    return found


def conflicts(made, split_by="key", seed=0):
    task, frame = made[split_by, seed]
    return task, instances(frame[frame.kind == "conflict"])


# -- the table of facts ---------------------------------------------------------------------------
def test_every_fact_is_a_valid_row():
    rows = read()
    assert len({(row.relation, row.entity, row.answer) for row in rows}) == len(rows)
    assert len(facts()) == sum(bool(row.entity) for row in rows) >= 400  # names are unique
    for row in rows:
        assert row.relation in wordings.relations(), row
        for text in (row.entity, row.answer, *row.also):
            assert text == text.strip() and not re.search(r'[^\w\'\- ."]|\d\d\d\d\d', text), row
        assert 1 <= len(row.answer.split()) <= 4, row
        assert row.answer not in row.also and row.entity != row.answer, row
        if row.entity:
            assert row.entity.lower() not in row.answer.lower(), row  # no Mexico City
            assert row.answer.lower() not in row.entity.lower().split(), row
    for relation in wordings.relations():
        assert sum(fact.relation == relation for fact in facts().values()) >= 30, relation
        assert not set(idle(relation)) & {fact.answer for fact in facts().values()}


def test_a_word_is_the_answer_of_one_relation_alone():
    """So that relations can be held back: none of their answers was ever right in another one."""
    found = {}
    for fact in facts().values():
        assert found.setdefault(fact.answer.lower(), fact.relation) == fact.relation, fact


def test_every_relation_names_where_its_facts_can_be_looked_up():
    for name, row in wordings.relations().items():
        assert len(row["source"]) > 10 and row["url"].startswith("https://"), name
        assert all(row.values()), name
        for form in wordings.FORMS:
            said = wordings.statement(form, name, "Aa", "Bb")
            assert "Aa" in said and "Bb" in said and said.endswith(".") and "{" not in said, said


def test_no_answer_is_a_word_of_the_sentences_around_it():
    """Else a model that copies from the text would seem to know (Anna *said*)."""
    for relation in wordings.relations():
        texts = [wordings.statement(form, relation, "", "") for form in wordings.FORMS]
        texts += [wordings.query(form, relation, "") for form in wordings.ASKED]
        around = {word for text in texts for word in re.findall(r"\w+", text)}
        for row in read():
            assert row.relation != relation or not around & set(row.answer.split()), row


def test_facts_that_a_reader_can_check():
    known = {
        "capital/Portugal": "Lisbon",
        "symbol/gold": "Au",
        "opposite/hot": "cold",
        "language/Brazil": "Portuguese",
        "plural/mouse": "mice",
        "currency/Japan": "yen",
        "author/Animal Farm": "George Orwell",
        "young/cat": "kitten",
        "city/Milan": "Italy",
        "past/go": "went",
        "feminine/king": "queen",
    }
    assert {name: facts()[name].answer for name in known} == known
    assert {name.split("/")[0] for name in known} == set(wordings.relations())


def test_the_file_holds_what_is_read():
    with TABLE.open(encoding="utf8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["relation"], row["entity"], row["answer"]) for row in rows] == [
        (row.relation, row.entity, row.answer) for row in read()
    ]


def test_made_up_names_are_those_of_nothing():
    real = " ".join(word for row in read() for word in row.words).lower().split()
    for relation in wordings.relations():
        names = wordings.made_up(relation)
        assert len(set(names)) == len(names) >= 16
        if wordings.relations()[relation]["made_up"] != "book":
            assert not {name.lower() for name in names} & set(real)
    assert not set(wordings.made_up("author")) & {fact.entity for fact in facts().values()}


# -- splits ---------------------------------------------------------------------------------------
def test_facts_that_share_a_word_are_one_cluster():
    rows = [
        Fact("language", "Portugal", "Portuguese"),
        Fact("capital", "Spain", "Madrid"),
        Fact("capital", "Portugal", "Lisbon"),
        Fact("language", "Brazil", "Portuguese"),
        Fact("capital", "", "Geneva"),
    ]
    first, *others = clusters(rows)
    assert [row.entity for row in first] == ["Portugal", "Portugal", "Brazil"]
    assert sorted(len(one) for one in others) == [1, 1]


@pytest.mark.parametrize("shares", [SHARES, (0.6, 0.2, 0.2), (0.34, 0.33, 0.33)])
def test_no_word_is_in_two_splits_and_every_relation_is_in_all(shares):
    split_of = splits("key", shares)
    where = {}
    for row, split in split_of.items():
        for word in {row.entity.lower(), row.answer.lower()} - {""}:
            assert where.setdefault(word, split) == split, word
    counted = Counter((row.relation, bool(row.entity), split) for row, split in split_of.items())
    of = Counter((row.relation, bool(row.entity)) for row in read())
    for (relation, real), n in of.items():
        for split, share in zip(SPLITS, shares):
            assert abs(counted[relation, real, split] - share * n) < max(2, 0.08 * n)


def test_held_back_relations_are_never_seen_in_training(made):
    for seed in range(3):
        task, frame = made["relation", seed]
        conflict = frame[frame.kind == "conflict"]
        found = {
            split: {key.split("/")[0] for key in conflict[conflict.split == split].key}
            for split in SPLITS
        }
        assert [len(found[split]) for split in SPLITS] == [6, 2, 3]
        assert not found["train"] & (found["validation"] | found["test"])
        assert not found["validation"] & found["test"]
    with pytest.raises(ValueError, match="split_by='entity'"):
        make_task("knowledge", 20, 0, split_by="entity")


@by_either
def test_a_key_is_in_the_same_split_whatever_the_seed_and_what_is_known(split_by):
    found: dict[str, str] = {}
    for seed, n_keys, known in product(range(3), (30, 90), (None, 2, 3)):
        task = make_task("knowledge", n_keys, seed, split_by=split_by)
        if known:
            task.keep(sorted(task.asked())[::known])
        for key, split in task.split_keys(SHARES).items():
            assert found.setdefault(key, split) == split
    assert len(found) > 150


def test_the_shares_are_those_of_the_keys_and_each_relation_has_its_part():
    for seed in range(3):
        task = make_task("knowledge", 110, seed)
        counted = Counter(task.split_keys(SHARES).values())
        assert counted == {"train": 55, "validation": 22, "test": 33}
        # in proportion to how many there are
        of = Counter(key.detail[0] for key in task.keys.values())
        assert all(3 <= of[relation] <= 25 for relation in wordings.relations())
    few = make_task("knowledge", 10, 0, shares=(0.4, 0.3, 0.3))
    assert Counter(few.split_keys((0.4, 0.3, 0.3)).values()) == {
        "train": 4,
        "validation": 3,
        "test": 3,
    }


def test_a_split_without_keys_says_what_to_do():
    task = make_task("knowledge", 20, 0)
    train = [name for name, split in task.split_keys(SHARES).items() if split == "train"]
    task.keep(train)
    with pytest.raises(ValueError, match="n_keys=20.*'validation'.*base_model"):
        task.split_keys(SHARES)


# -- no leak --------------------------------------------------------------------------------------
@by_either
def test_no_answer_leaks_into_another_split(made, split_by):
    """Over all seeds together, and over rephrasings as well: a stated answer is neither a memory's
    answer of another split (of any fact there is) nor stated there.
    """
    stated = {split: set() for split in SPLITS}
    for seed in range(3):
        task, rows = conflicts(made, split_by, seed)
        rng = np.random.default_rng(seed)
        remade = Knowledge(80, seed)  # it knows nothing of how the data set was split
        for row, change in product(rows, (None, *CHANGES)):
            other = row if change is None else remade.rephrase(rng, row, change)
            if other is not None:
                stated[row.split].add(other.rule_answer.strip())
                assert other.memory_answer != other.rule_answer
    split_of = splits(split_by, SHARES)
    for split, answers in stated.items():
        assert len(answers) > 25
        for row, of in split_of.items():
            assert of == split or row.answer not in answers, (split, row)
    assert not stated["train"] & stated["validation"]
    assert not stated["train"] & stated["test"] and not stated["validation"] & stated["test"]


@by_either
def test_sentences_beside_a_statement_are_true_and_of_the_same_split(made, split_by):
    task, rows = conflicts(made, split_by)
    truths = {
        wordings.statement("stated", fact.relation, fact.entity, fact.answer): fact
        for fact in facts().values()
    }
    split_of, numbers = splits(split_by, SHARES), set()
    for row in rows:
        context = row.prompt.split(" Question: ")[0]
        found = [fact for text, fact in truths.items() if text in context]
        assert all(split_of[fact] == row.split for fact in found)
        assert all(fact.relation == row.key.split("/")[0] for fact in found)
        assert all(
            row.memory_answer.strip() != fact.answer != row.rule_answer.strip() for fact in found
        )
        assert len(found) == int(task.roles(row)["distractors"])
        numbers.add(len(found))
    assert numbers == {0, 1, 2}


def test_what_is_stated_is_no_other_right_answer_and_begins_otherwise(made):
    for seed in range(3):
        _, rows = conflicts(made, "key", seed)
        for row in rows:
            fact, stated = facts()[row.key], row.rule_answer.strip()
            assert stated not in (fact.answer, *fact.also, fact.entity)
            assert stated.split()[0] != fact.answer.split()[0]


# -- prompts --------------------------------------------------------------------------------------
@by_either
def test_prompts_end_without_a_space_and_answers_begin_with_one(made, split_by):
    for row in instances(made[split_by, 0][1]):
        assert row.prompt == row.prompt.strip() and "  " not in row.prompt
        for answer in {row.memory_answer, row.rule_answer} - {""}:
            assert re.fullmatch(r" \S.*\S| \S", answer)


def test_a_prompt_is_the_one_of_the_issue():
    task = make_task("knowledge", 20, 0)
    portugal, italy = facts()["capital/Portugal"], facts()["capital/Italy"]
    worded = wordings.Wording("changed", "question", 1, "before", 1)
    row = task._instance("conflict", portugal, worded, [italy], (portugal, "Tokyo"))
    assert row.prompt == (
        "They changed the capital of Portugal to Tokyo. The capital of Italy is Rome. Question: What"
        " is the capital of Portugal? Answer: The capital of Portugal is"
    )
    assert (row.memory_answer, row.rule_answer, row.key) == (
        " Lisbon",
        " Tokyo",
        "capital/Portugal",
    )


def test_the_text_of_a_conflict_prompt_states_the_rules_answer_of_its_key(made):
    task, rows = conflicts(made)
    for row in rows:
        fact, setting = facts()[row.key], row.detail()
        said = wordings.statement(
            setting["form"], fact.relation, fact.entity, row.rule_answer.strip()
        )
        assert row.prompt.count(said) == int(task.roles(row)["repeats"])
        assert fact.answer not in re.findall(r"\w+", row.prompt)
        assert row.prompt.endswith(wordings.stem(fact.relation, fact.entity))
        asks = wordings.query("question", fact.relation, fact.entity)
        assert (task.roles(row)["query"] == "question") == row.prompt.endswith(asks)
        place = {True: "before", False: "after"}[row.prompt.startswith(said)]
        assert task.roles(row)["position"] == (place if setting["distractors"] else "alone")


def test_data_sets_draw_all_that_they_should_and_count_it(made):
    task, rows = conflicts(made)
    for role, values in {
        "statement": wordings.DRAWN_FORMS,
        "query": wordings.QUERIES,
        "distractors": "012",
        "position": ("before", "after", "alone"),
        "repeats": "12",
        "relation": tuple(wordings.relations()),
    }.items():
        counted = Counter(task.roles(row)[role] for row in rows)
        assert set(counted) == set(values)
        if role != "relation":
            assert min(counted.values()) > len(rows) / len(values) / 2
    everything = make_task("knowledge", 40, 0)
    everything.forms = wordings.FORMS
    frame = everything.generate(**SIZES)
    drawn = instances(frame[frame.kind == "conflict"])
    assert {row.detail()["form"] for row in drawn} == set(wordings.FORMS)


def test_the_roles_of_a_prompt_name_no_key_and_keep_their_names(made):
    task, rows = conflicts(made)
    roles = [task.roles(row) for row in rows]
    assert len({tuple(one) for one in roles}) == 1
    assert all(isinstance(value, str) for one in roles for value in one.values())
    assert "relation and statement" in roles[0]
    for role in roles[0]:
        for value in {one[role] for one in roles}:
            if "relation" not in role:
                keys = {row.key for row, one in zip(rows, roles) if one[role] == value}
                assert len(keys) > 1, (role, value)
    texts = {text for one in roles for value in one.values() for text in value.split()}
    assert not texts & set(facts())
    assert task.nearness(rows[0]) is None


def test_rephrasing_keeps_the_key_and_changes_what_it_says(made):
    task, rows = conflicts(made)
    rng, done = np.random.default_rng(0), Counter()
    for row, change in product(rows[::2], CHANGES):
        other = task.rephrase(rng, row, change)
        if other is None:
            continue
        done[change] += 1
        assert (other.key, other.kind, other.memory_answer) == (
            row.key,
            "conflict",
            row.memory_answer,
        )
        one, two = (wordings.Wording.of(each.detail()) for each in (row, other))
        assert (one == two) == (change == "content") == (row.rule_answer != other.rule_answer)
        if change == "content":  # nothing else
            assert row.detail()["beside"] == other.detail()["beside"]
            assert task.roles(row) == task.roles(other)
    assert min(done.values()) > 0.4 * len(rows)


def test_keyed_prompts_ask_without_a_statement(made):
    for seed in range(3):
        task, frame = made["key", seed]
        keyed = instances(frame[frame.kind == "keyed"])
        assert {row.key for row in keyed} == set(task.keys)
        assert len(keyed) == SIZES["n_keyed"]  # enough different ones for every key
        for row in keyed:
            fact = facts()[row.key]
            assert row.target == row.memory_answer == f" {fact.answer}" and row.rule_answer == ""
            about = row.prompt.split("Question:")[0].removesuffix(
                wordings.query("plain", fact.relation, fact.entity)
            )
            assert fact.entity not in re.findall(r"\w+", about) or " " in fact.entity


def test_every_key_is_asked_in_every_wording_without_a_context():
    task = make_task("knowledge", 20, 0)
    asked = task.asked()
    assert set(asked) == set(facts())
    for name, rows in asked.items():
        fact = facts()[name]
        assert [row.prompt for row in rows] == [
            wordings.query(form, fact.relation, fact.entity) for form in wordings.ASKED
        ]
        assert {(row.key, row.kind, row.memory_answer) for row in rows} == {
            (name, "keyed", f" {fact.answer}")
        }


def test_free_prompts_are_about_nothing_real(made):
    for split_by, seed in made:
        frame = made[split_by, seed][1]
        for row in instances(frame[frame.kind == "free"]):
            setting = row.detail()
            assert row.key == row.memory_answer == "" and row.target == row.rule_answer
            assert setting["entity"] in wordings.made_up(setting["relation"])
            assert row.rule_answer.strip() in idle(setting["relation"])
            assert setting["entity"] in row.prompt and row.rule_answer.strip() in row.prompt


# -- controls and options -------------------------------------------------------------------------
def test_gold_and_irrelevant_contexts(made):
    task, _ = made["key", 0]
    rng = np.random.default_rng(0)
    for key in task.keys.values():
        fact = facts()[key.name]
        gold = task.gold(rng, key)
        assert gold.kind == "keyed" and gold.memory_answer == gold.rule_answer == gold.target
        setting = gold.detail()
        said = wordings.statement(setting["form"], fact.relation, fact.entity, fact.answer)
        assert said in gold.prompt
        assert task.classify(gold, gold.memory_answer) == MEMORIZATION
        other = task.irrelevant(rng, key)
        assert other.kind == "keyed" and other.target == key.memory_answer != other.rule_answer
        setting = other.detail()
        about = facts()[f"{fact.relation}/{setting['about']}"]
        assert about != fact and other.rule_answer.strip() not in (about.answer, *about.also)
        assert other.prompt == " ".join(
            [
                *[
                    wordings.statement(
                        setting["form"], fact.relation, about.entity, other.rule_answer.strip()
                    )
                ]
                * setting["repeats"],
                wordings.query(setting["query"], fact.relation, fact.entity),
            ]
        )
        assert task.classify(other, other.rule_answer) == GENERALIZATION
        assert task.classify(other, " elsewhere") == OTHER


def test_one_prompt_in_the_forms_of_the_field(made):
    task, rows = conflicts(made)
    for row, form in product(rows[:8], wordings.FORMS):
        other = task.said_as(row, form)
        fact = facts()[row.key]
        said = wordings.statement(form, fact.relation, fact.entity, row.rule_answer.strip())
        assert said in other.prompt
        assert (other.memory_answer, other.rule_answer, other.key, other.split) == (
            row.memory_answer,
            row.rule_answer,
            row.key,
            row.split,
        )
        one, two = row.detail(), other.detail()
        assert {**one, "form": form} == two
    with pytest.raises(ValueError, match="form='rumour'"):
        task.said_as(rows[0], "rumour")


def test_an_instruction_stands_in_front_and_changes_nothing_else(made):
    task, rows = conflicts(made)
    found = {
        direction: [row.prompt for row in task.instructed(rows[0], direction)]
        for direction in ("m2g", "g2m")
    }
    texts = [text for prompts in found.values() for text in prompts]
    assert len(set(texts)) == 4 and all(len(prompts) == 2 for prompts in found.values())
    assert all(text.endswith(f" {rows[0].prompt}") for text in texts)
    assert all(
        json.loads(row.setting) == rows[0].detail() and row.rule_answer == rows[0].rule_answer
        for row in task.instructed(rows[0], "m2g")
    )
    with pytest.raises(ValueError, match="direction='up'"):
        task.instructed(rows[0], "up")


# -- in one wording ---------------------------------------------------------------------------------
@by_either
def test_every_key_is_asked_in_the_same_forms(made, split_by):
    """Read off the texts: what is left of prompts of one form without entities and answers is one."""
    task, _ = made[split_by, 0]
    keys = [name for name, split in task.split_keys(SHARES).items() if split == "train"]
    rows = task.in_forms(keys, 6)
    assert rows == task.in_forms(keys, 6) and {row.key for row in rows} == set(keys)
    forms = {}
    for row in rows:
        setting = row.detail()
        names = {row.rule_answer.strip(), setting["entity"]}
        names |= {word for name in setting["beside"] for word in facts()[name].words}
        text = row.prompt
        for name in sorted(names, key=len, reverse=True):
            text = re.sub(rf"(?i)\b{re.escape(name)}\b", "*", text)
        forms.setdefault(task.form(row), set()).add(text)
        assert row.kind == "conflict" and row.memory_answer != row.rule_answer
    assert max(map(len, forms.values())) == 1, max(forms.values(), key=len)
    of_relation = Counter(json.loads(form)[0] for form in forms)
    assert set(of_relation.values()) == {6}


@by_either
def test_texts_that_are_no_conflict_say_the_truth_or_are_about_another(made, split_by):
    task, _ = made[split_by, 0]
    keys = [name for name, split in task.split_keys(SHARES).items() if split == "test"]
    found = task.contexts(keys)
    assert {one.key for rows in found.values() for one in rows} == set(keys)
    assert {one.memory_answer for one in found["none"]} == {
        f" {facts()[key].answer}" for key in keys
    }
    for one in found["none"]:
        asked = one.detail()["relation"], one.detail()["entity"]
        assert one.prompt in {wordings.query(form, *asked) for form in wordings.QUERIES}
    for one in found["gold"]:
        assert one.rule_answer == one.memory_answer and one.detail()["stated"] in one.prompt
    for one in found["irrelevant"]:
        setting = one.detail()
        assert setting["about"] in one.prompt and setting["about"] != setting["entity"]
        assert one.rule_answer == f" {setting['stated']}" != one.memory_answer
