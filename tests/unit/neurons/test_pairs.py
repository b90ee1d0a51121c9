"""Pairs: same key, opposite behaviours, each prompt once; flip rates counted by hand."""

from __future__ import annotations

import pandas as pd
import pytest

from memgen.models.build import build_model
from memgen.models.tokenizer import build_tokenizer
from memgen.neurons.pairs import answer_conflicts, flip_rates, flips, same_behavior

M, R, X = "memorization", "generalization", "other"


def table(groups: list[tuple[str, str, list[str]]]) -> pd.DataFrame:
    """`(key, split, behaviours)` of each original and its rephrasings."""
    rows = [
        {
            "key": key,
            "split": split,
            "group": group,
            "rephrasing": i,
            "behavior": behavior,
            "prompt": f"{group}/{i}",
        }
        for group, (key, split, behaviors) in enumerate(groups)
        for i, behavior in enumerate(behaviors)
    ]
    return pd.DataFrame(
        rows, index=range(100, 100 + len(rows))
    )  # an index that is not the position


ANSWERED = table(
    [
        ("a", "train", [M, R, R, X]),  # one pair: a single M
        ("a", "train", [R, M, M, R, M]),  # two pairs
        ("b", "train", [M, M, M, X]),  # no flip; one pair of equal behaviour
        ("c", "test", [R, R, M]),  # one pair
        ("d", "test", [X, M, R]),  # one pair, though the original is neither
        ("e", "test", [R, X, X]),
    ]
)


def test_flips_have_one_key_and_opposite_behaviours_and_use_each_row_once():
    found = flips(ANSWERED)
    rows = ANSWERED.reset_index(drop=True)
    assert len(found) == 5
    assert found.groupby("key").size().to_dict() == {"a": 3, "c": 1, "d": 1}
    for pair in found.itertuples():
        memory, rule = rows.loc[pair.memory], rows.loc[pair.rule]
        assert (memory.behavior, rule.behavior) == (M, R)
        assert memory.key == rule.key == pair.key and memory.split == rule.split == pair.split
        assert memory.group == rule.group
    used = [*found.memory, *found.rule]
    assert len(used) == len(set(used))


@pytest.mark.parametrize(
    "behavior, keys", [(M, {"a": 1, "b": 1}), (R, {"a": 2, "c": 1}), (X, {"e": 1})]
)
def test_null_pairs_show_the_same_behaviour(behavior, keys):
    found = same_behavior(ANSWERED, behavior)
    rows = ANSWERED.reset_index(drop=True)
    assert found.groupby("key").size().to_dict() == keys
    assert (rows.behavior[[*found.memory, *found.rule]] == behavior).all()
    used = [*found.memory, *found.rule]
    assert len(used) == len(set(used))


def test_flip_rates_by_hand():
    found = flip_rates(ANSWERED).set_index(["split", "direction"])
    # train, memory first: groups a (R, R, X: two of three) and b (M, M, X: none of three); rule
    # first: group a (M, M, R, M: three of four)
    assert found.loc[("train", "m2g"), ["n", "flipped"]].tolist() == [6, 2]
    assert found.loc[("train", "g2m"), ["n", "flipped"]].tolist() == [4, 3]
    # test: no original is memory; rule first: c (R, M: one of two) and e (X, X: none of two)
    assert found.loc[("test", "m2g"), ["n", "flipped", "rate"]].tolist() == [0, 0, 0]
    assert found.loc[("test", "g2m"), ["n", "flipped", "rate"]].tolist() == [4, 1, 0.25]
    assert found.rate["train", "m2g"] == pytest.approx(1 / 3)


def test_no_flips_is_an_empty_table():
    found = flips(table([("a", "train", [M, M])]))
    assert found.empty and list(found.columns) == ["memory", "rule", "key", "split"]


def test_answered_conflicts_of_a_planted_model(planted):
    """Its answers are known from the prompt, so every column can be checked."""
    model, tokenizer, task, frame, answered = planted()
    originals = answered[answered.rephrasing == 0]
    assert list(originals.prompt) == list(frame[frame.kind == "conflict"].prompt)
    assert (
        answered.behavior == answered.prompt.str.contains("memory").map({True: M, False: R})
    ).all()
    assert not answered.duplicated(["group", "prompt"]).any()
    assert (
        answered.groupby("group").key.nunique().eq(1).all()
        and answered.groupby("group").split.nunique().eq(1).all()
    )
    assert answered.groupby("group").size().max() == 3
    split_of = frame[frame.kind == "conflict"].drop_duplicates("key").set_index("key").split
    assert (answered.split == answered.key.map(split_of)).all()
    assert len(flips(answered)) >= len(originals) * 0.9  # every rephrasing of this task flips
    assert answered.equals(answer_conflicts(model, tokenizer, task, frame, 2))


@pytest.mark.parametrize("name", ["arithmetic-tagged", "inference", "cipher-matched"])
def test_rephrasings_of_the_real_tasks(datasets, name):
    task, frame = datasets[name]
    frame = frame[frame.kind == "conflict"].groupby("key").head(2).reset_index(drop=True)
    tokenizer = build_tokenizer(task.vocabulary())
    model = build_model(
        tokenizer, n_layer=1, n_embd=16, n_head=2, n_positions=32, initializer_range=0.02, seed=0
    ).eval()
    answered = answer_conflicts(model, tokenizer, task, frame, 3)
    sizes = answered.groupby("group").size()
    assert sizes.max() == 4 and sizes.mean() > 3
    assert (answered.kind == "conflict").all() and not answered.duplicated(
        ["group", "prompt"]
    ).any()
    assert set(answered.behavior) <= {M, R, X}
