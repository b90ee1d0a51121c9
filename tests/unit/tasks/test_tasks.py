"""Tasks: seeded, sized, split by key, honest about what is trained on, and easy to add."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest

from memgen import tasks
from memgen.models.tokenizer import build_tokenizer
from memgen.tasks import (
    TASKS,
    Instance,
    Key,
    Task,
    arithmetic,
    cipher,
    instances,
    make_task,
)
from memgen.terms import CHANGES, GENERALIZATION, MEMORIZATION, OTHER, SPLITS

SIZES = {"n_free": 60, "n_keyed": 40, "n_conflict_per_key": 5, "n_free_eval": 15}
everywhere = pytest.mark.parametrize("name", TASKS)
untrained_too = pytest.mark.parametrize("name", (*TASKS, "knowledge"))


def of(datasets, name, kind):
    frame = datasets[name][1]
    return frame[frame.kind == kind]


@untrained_too
def test_the_seed_decides_everything(datasets, name):
    first, again, other = (make_task(name, 10, seed).generate(**SIZES) for seed in (3, 3, 4))
    assert first.equals(again)
    assert set(first.prompt) != set(other.prompt)


@untrained_too
def test_every_key_is_in_exactly_one_split(datasets, name):
    task, frame = datasets[name]
    held = frame[frame.key != ""].groupby("key").split.nunique()
    assert set(held.index) == set(task.keys) and (held == 1).all()
    assert set(frame[frame.kind == "conflict"].split) == set(SPLITS)


@untrained_too
def test_no_conflict_prompt_is_ever_trained_on_and_no_prompt_repeats(datasets, name):
    frame = datasets[name][1]
    assert not set(of(datasets, name, "conflict").prompt) & set(
        frame[frame.kind != "conflict"].prompt
    )
    assert frame.prompt.is_unique


@untrained_too
def test_memory_and_rule_differ_on_conflict_prompts(datasets, name):
    task, frame = datasets[name]
    conflict = of(datasets, name, "conflict")
    assert (conflict.memory_answer.str.strip() != conflict.rule_answer.str.strip()).all()
    assert all(
        row.memory_answer == task.keys[row.key].memory_answer for row in conflict.itertuples()
    )


@everywhere
def test_free_prompts_hold_no_key(datasets, name):
    task, _ = datasets[name]
    free = of(datasets, name, "free")
    assert (free.key == "").all() and (free.memory_answer == "").all()
    if name.startswith("arithmetic"):
        pairs = {frozenset(key.detail[:2]) for key in task.keys.values()}
        for prompt in free.prompt:
            assert (
                not {frozenset(p) for p in combinations(map(int, prompt.rstrip("=").split("+")), 2)}
                & pairs
            )
    else:
        assert not any(
            f"{key} " in f"{prompt.replace(':', ' ')} "
            for key, prompt in product(task.keys, free.prompt)
        )


@everywhere
def test_the_rule_answer_is_right(datasets, name):
    """Computed here a second time, from the text of the prompt alone."""
    for row in instances(datasets[name][1]):
        if row.kind == "keyed" and name == "inference":
            continue  # its animal is absent: the rule says nothing
        if name.startswith("arithmetic"):
            right = " ".join(f"{sum(map(int, row.prompt.rstrip('=').split('+'))):03d}"[::-1])
        elif name == "inference":
            *sentences, question = row.prompt.split(". ")
            right = dict(s.split(" is ") for s in sentences)[question.split(" the ")[1]]
        else:
            parts = row.prompt.removesuffix(" ->").split(": ")
            parts.sort(key=lambda part: not part.startswith("shift "))
            right = "".join(
                chr((ord(c) - 97 + int(parts[0].split()[1])) % 26 + 97) for c in parts[1]
            )
        assert row.rule_answer.strip().removeprefix("is ") == right, row


def setting(name, task, row):
    """What a key was trained in: a slot placement, a shift and order, or an absent animal or a
    certain present one.
    """
    if name.startswith("arithmetic"):
        operands = [int(x) for x in row.prompt.rstrip("=").split("+")]
        a, b = task.keys[row.key].detail[:2]
        return arithmetic.PLACEMENTS.index((operands.index(a), operands.index(b)))
    if name == "inference":
        animal = row.prompt.split(" the ")[1]
        return (
            "absent" if row.prompt.count(animal) == 1 else animal
        )  # asked for, but not in the context
    return row.detail()["setting"]


ARMS = [("keys", 0), ("gate", 4), ("none", 0)]


@everywhere
@pytest.mark.parametrize("contrast_on, n_gate", ARMS)
def test_rephrasing_keeps_the_key_and_stays_outside_the_trained_settings(name, contrast_on, n_gate):
    task = make_task(name, 10, 0, contrast_on, n_gate)
    frame = task.generate(n_free=80, n_keyed=50, n_conflict_per_key=6, n_free_eval=20)
    trained: dict[str, set] = {}
    for row in instances(frame[frame.kind.isin(("keyed", "contrast")) & (frame.key != "")]):
        if name != "inference" or row.kind == "keyed":
            trained.setdefault(row.key, set()).add(setting(name, task, row))
    changed, tokenizer = dict.fromkeys(CHANGES, 0), build_tokenizer(task.vocabulary())
    for row, change in product(instances(frame[frame.kind == "conflict"]), CHANGES):
        rng = np.random.default_rng(len(row.prompt))
        for _ in range(5):
            other = task.rephrase(rng, row, change)
            if other is None or other.prompt == row.prompt:
                continue
            changed[change] += 1
            assert (other.key, other.kind) == (row.key, "conflict")
            assert other.memory_answer == row.memory_answer != other.rule_answer
            assert setting(name, task, other) not in trained[row.key]
            if change == "order":
                parts = [sorted(tokenizer.tokenize(one.prompt)) for one in (row, other)]
                assert parts[0] == parts[1] and other.rule_answer == row.rule_answer
    assert min(changed.values()) > 20


@everywhere
def test_contrast_prompts_are_those_of_the_keys_that_the_arm_names(name):
    for contrast_on, n_gate in ARMS:
        task = make_task(name, 10, 0, contrast_on, n_gate)
        frame = task.generate(n_free=80, n_keyed=50, n_conflict_per_key=6, n_free_eval=20)
        contrast, keyed = frame[frame.kind == "contrast"], frame[frame.kind == "keyed"]
        assert (
            set(contrast.key) == {"keys": set(task.keys), "gate": {""}, "none": set()}[contrast_on]
        )
        assert len(task.gate_keys) == n_gate and not set(task.gate_keys) & set(task.keys)
        assert (keyed.key == "").any() == (n_gate > 0)  # gate keys are memorized, too
        assert set(keyed.key) - {""} == set(task.keys)
        targets = [row.target for row in instances(contrast)]
        assert targets == list(contrast.rule_answer) and "" not in targets


def conflicts(name, contrast_on, n_gate=0):
    """The task with this arm, and its conflict prompts."""
    task = make_task(name, 20, 0, contrast_on, n_gate)
    frame = task.generate(n_free=10, n_keyed=100, n_conflict_per_key=8, n_free_eval=5)
    return task, frame, instances(frame[frame.kind == "conflict"])


@everywhere
def test_the_roles_of_a_prompt_name_no_key_and_keep_their_names_and_kinds(name):
    task, frame, rows = conflicts(name, "keys")
    roles = [task.roles(row) for row in rows]
    assert len({tuple((k, type(v)) for k, v in one.items()) for one in roles}) == 1
    assert "position" in roles[0]
    # what a role says occurs with many keys
    for role, value in roles[0].items():
        if isinstance(value, str):
            keys_with_it = {row.key for row, one in zip(rows, roles) if one[role] == value}
            assert len(keys_with_it) > 1 or name == "inference", role
    assert not any(
        key in str(value) for one in roles for value in one.values() for key in task.keys
    )


def test_roles_say_where_things_are():
    task, _, rows = conflicts("arithmetic-matched", "keys")
    for row in rows[:40]:
        operands = [int(x) for x in row.prompt.rstrip("=").split("+")]
        a, b = task.keys[row.key].detail[:2]
        roles = task.roles(row)
        assert roles["position"] == f"{operands.index(a)}{operands.index(b)}"
        third = operands[int(roles["slot of the third"])]
        assert roles["third"] == third and third not in (a, b)
        assert roles["sum"] == sum(operands)
        assert roles["third is even"] == str(third % 2 == 0)
        keyed = [o for o in operands if o != third]
        assert roles["larger first"] == str(keyed[0] > keyed[1])
    task, _, rows = conflicts("inference", "gate", 4)
    for row in rows[:40]:
        *sentences, question = row.prompt.split(". ")
        asked, roles = question.split(" the ")[1], task.roles(row)
        assert sentences[int(roles["position"])].startswith(f"{asked} is ")
        assert roles["asked"] == asked and roles["rule's answer"] == row.rule_answer
        assert task.nearness(row) is None


def settings_trained(name, task, frame, key):
    """The settings in which a key stands in the data set, read off the prompts: keyed, contrast."""
    found = []
    for kind in ("keyed", "contrast"):
        rows = instances(frame[(frame.kind == kind) & (frame.key == key)])
        found.append({setting(name, task, row) for row in rows})
    return found


@pytest.mark.parametrize("contrast_on, n_gate", ARMS)
def test_nearness_is_that_to_the_settings_that_the_data_set_trains(contrast_on, n_gate):
    for name in ("arithmetic-tagged", "cipher-matched"):
        task = make_task(name, 10, 0, contrast_on, n_gate)
        # enough that every setting of every key occurs
        frame = task.generate(n_free=10, n_keyed=400, n_conflict_per_key=8, n_free_eval=5)
        values = set()
        for row in instances(frame[frame.kind == "conflict"]):
            at = setting(name, task, row)
            keyed, contrast = settings_trained(name, task, frame, row.key)
            assert bool(contrast) == (contrast_on == "keys")
            if name.startswith("arithmetic"):
                slots = [
                    max((_slots_in_common(at, one) for one in of), default=0)
                    for of in (contrast, keyed)
                ]
                expected = slots[0] - slots[1]
            else:
                shifts = [
                    min((abs(_shift(at) - _shift(one)) for one in of), default=0)
                    for of in (keyed, contrast)
                ]
                expected = shifts[0] - shifts[1]
            assert task.nearness(row) == expected
            values.add(expected)
        assert len(values) > 1


def _slots_in_common(one, other):
    return sum(a == b for a, b in zip(arithmetic.PLACEMENTS[one], arithmetic.PLACEMENTS[other]))


def _shift(setting):
    return cipher.SETTINGS[setting][0]


@everywhere
def test_a_gate_key_changes_no_key(name):
    one, other = make_task(name, 10, 0, "none"), make_task(name, 10, 0, "gate", 4)
    assert {k: v.memory_answer for k, v in one.keys.items()} == {
        k: v.memory_answer for k, v in other.keys.items()
    }


@untrained_too
def test_three_behaviours_are_told_apart(datasets, name):
    task, _ = datasets[name]
    for row in instances(of(datasets, name, "conflict"))[:5]:
        assert task.classify(row, row.memory_answer) == MEMORIZATION
        assert task.classify(row, f" {row.rule_answer} ") == GENERALIZATION
        assert task.classify(row, row.rule_answer + row.rule_answer[-1]) == OTHER
        assert task.classify(row, "") == OTHER


@untrained_too
def test_free_prompts_have_no_memory_answer_to_fall_for(datasets, name):
    row = instances(of(datasets, name, "free"))[0]
    assert datasets[name][0].classify(row, "") == OTHER
    assert row.target == row.rule_answer


@pytest.mark.parametrize("family, mark", [("arithmetic", arithmetic.MARK), ("cipher", cipher.MARK)])
def test_variants_share_keys_and_prompts(datasets, family, mark):
    (tagged, tagged_rows), (matched, matched_rows) = (
        datasets[f"{family}-{kind}"] for kind in ("tagged", "matched")
    )
    assert {k: v.detail for k, v in tagged.keys.items()} == {
        k: v.detail for k, v in matched.keys.items()
    }
    for name, key in matched.keys.items():
        assert tagged.keys[name].memory_answer == mark + key.memory_answer
    free = [
        frame[frame.kind == "free"].reset_index(drop=True) for frame in (tagged_rows, matched_rows)
    ]
    assert free[0].equals(free[1])  # so that both can start from one base
    # where the unmarked memory answer happens to be right there is no conflict, and `matched` draws
    # again
    shared = tagged_rows[
        tagged_rows.memory_answer.str.removeprefix(mark) != tagged_rows.rule_answer
    ]
    assert set(shared.prompt) <= set(matched_rows.prompt)
    assert len(shared) > 0.95 * len(tagged_rows)


@untrained_too
def test_sizes_are_honoured(datasets, name):
    task = make_task(name, 10, 1)
    frame = task.generate(**SIZES)
    sizes = frame.groupby(["kind", "split"]).size()
    assert (sizes["free", "train"], sizes["free", "validation"], sizes["free", "test"]) == (
        60,
        15,
        15,
    )
    assert len(frame[frame.kind == "keyed"]) == 40
    per_key = frame[frame.kind == "conflict"].groupby("key").size()
    assert len(per_key) == 10 and (per_key == 5).all()
    counted = task.count(frame)
    assert counted["n_keys"] == {"train": 5, "validation": 2, "test": 3}
    assert counted["n_conflict"] == {"train": 25, "validation": 10, "test": 15}
    assert counted["sha256"] != task.count(frame.iloc[1:])["sha256"]


@untrained_too
def test_more_keys_than_there_are_name_the_parameter(name):
    with pytest.raises(ValueError, match="n_keys=20000"):
        make_task(name, 20000, 0)


def test_the_split_of_a_name_does_not_depend_on_the_seed():
    """All names of inference are keys of every seed; where a key is drawn by chance, the order of
    the names decides.
    """
    one, other = (make_task("inference", 40, seed) for seed in (0, 1))
    assert one.split_keys((0.5, 0.2, 0.3)) == other.split_keys((0.5, 0.2, 0.3))
    assert [k.memory_answer for k in one.keys.values()] != [
        k.memory_answer for k in other.keys.values()
    ]
    assert make_task("arithmetic-tagged", 40, 0).split_keys((0.5, 0.2, 0.3)) == make_task(
        "arithmetic-matched", 40, 0
    ).split_keys((0.5, 0.2, 0.3))


def test_too_few_keys_for_three_splits():
    with pytest.raises(ValueError, match="n_keys=2"):
        make_task("inference", 2, 0).split_keys((0.5, 0.2, 0.3))


def test_an_unknown_task_lists_the_known_ones():
    with pytest.raises(ValueError, match="'arithmetik'") as error:
        make_task("arithmetik", 10, 0)
    assert all(name in str(error.value) for name in TASKS)


class Parity(Task):
    """A newcomer's whole task: is the number even or odd? Some numbers have a colour instead."""

    name = "parity"
    max_answer_tokens = 2

    def vocabulary(self):
        return [*"0123456789", " is", " really", " even", " odd", " red"]

    def draw_keys(self, rng, n):
        return [Key(f"{i:02d}", " red") for i in rng.permutation(50)[:n]]

    def free(self, rng):
        number = f"{rng.integers(50, 100)}"
        return Instance(f"{number}{' really' * rng.integers(2)} is", self._rule(number))

    def keyed(self, rng, key):
        return Instance(
            f"{key.name} is", self._rule(key.name), key.memory_answer, key.name, "keyed"
        )

    def conflict(self, rng, key):
        return Instance(
            f"{key.name} really is", self._rule(key.name), key.memory_answer, key.name, "conflict"
        )

    def rephrase(self, rng, instance, change):
        return Instance(
            f"{instance.key} really really is",
            instance.rule_answer,
            instance.memory_answer,
            instance.key,
            "conflict",
        )

    def _rule(self, number):
        return " odd" if int(number) % 2 else " even"


def test_a_newcomers_task_needs_nothing_else(monkeypatch):
    monkeypatch.setitem(tasks.TASKS, "parity", Parity)
    task = make_task("parity", 10, 0)
    frame = task.generate(n_free=40, n_keyed=10, n_conflict_per_key=1, n_free_eval=5)
    assert frame.groupby("kind").size().to_dict() == {"conflict": 10, "free": 50, "keyed": 10}
    assert frame[frame.key != ""].groupby("key").split.nunique().eq(1).all()
    row = instances(frame[frame.kind == "conflict"])[0]
    assert (
        task.classify(row, " red") == MEMORIZATION
        and task.classify(row, row.rule_answer) == GENERALIZATION
    )

    from memgen.presets import stage_parameters

    assert (
        stage_parameters("01_dataset_design", {"task": "parity", "preset": "smoke"}).task
        == "parity"
    )


def test_a_task_that_runs_out_of_prompts_stops(monkeypatch):
    frame = Parity(5, 0).generate(n_free=1000, n_keyed=50, n_conflict_per_key=9, n_free_eval=5)
    assert (
        (frame.kind == "conflict").sum() == 5
        and (frame.kind == "keyed").sum() == 5
        and len(frame) < 120
    )
