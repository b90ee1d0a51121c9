"""Pairs: same key, opposite behaviours, one kind of change, each text once; flip rates by hand."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import pytest

from memgen.models.build import build_model
from memgen.models.tokenizer import build_tokenizer
from memgen.neurons import pairs as pairs_module
from memgen.neurons.pairs import (
    answer_conflicts,
    flip_rates,
    flips,
    rephrased,
    rephrasings,
    same_behavior,
)
from memgen.stats.intervals import bootstrap_by_key, wilson
from memgen.tasks import instances
from memgen.terms import CHANGES

M, R, X = "memorization", "generalization", "other"


def table(groups: list[tuple[str, str, list]]) -> pd.DataFrame:
    """`(key, split, behaviours)` of each original and its rephrasings; these change the order, or
    what a tuple `(behaviour, change)` says, and then the rule's answer, too.
    """
    rows = []
    for group, (key, split, shown) in enumerate(groups):
        for i, one in enumerate(shown):
            behavior, change = one if isinstance(one, tuple) else (one, "order")
            rows.append(
                {
                    "key": key,
                    "split": split,
                    "group": group,
                    "rephrasing": i,
                    "change": change if i else "",
                    "behavior": behavior,
                    "prompt": f"{group}/{i}",
                    "rule_answer": f"{group}/{i}" if change == "content" else f"{group}",
                }
            )
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
    found = flips(ANSWERED, "order")
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
    found = same_behavior(ANSWERED, behavior, "order")
    rows = ANSWERED.reset_index(drop=True)
    assert found.groupby("key").size().to_dict() == keys
    assert (rows.behavior[[*found.memory, *found.rule]] == behavior).all()
    used = [*found.memory, *found.rule]
    assert len(used) == len(set(used))


def test_null_pairs_are_neighbours_and_the_last_of_an_odd_number_is_alone():
    rows = table([("a", "train", [M, M, R, M, M, M]), ("b", "train", [M] * 6)])
    found = same_behavior(rows, M, "order")
    assert list(zip(found.memory, found.rule)) == [(0, 1), (3, 4), (6, 7), (8, 9), (10, 11)]


C = "content"
MIXED = table(
    [
        ("a", "train", [M, R, (R, C), (R, C), (M, C)]),
        ("b", "train", [M, (R, C), R]),
        ("c", "train", [R, (M, C), (X, C)]),
    ]
)


def test_a_pair_differs_by_one_kind_of_change():
    rows = MIXED.reset_index(drop=True)
    for change, keys in (("order", {"a": 1, "b": 1}), ("content", {"a": 2, "b": 1, "c": 1})):
        found = flips(MIXED, change)
        assert found.groupby("key").size().to_dict() == keys
        assert set(rows.change[[*found.memory, *found.rule]]) <= {"", change}
    stays = same_behavior(MIXED, M, "content")
    assert rows.prompt[[*stays.memory, *stays.rule]].tolist() == ["0/0", "0/4"]
    assert same_behavior(MIXED, M, "order").empty  # by order, group a has one prompt from memory


def test_no_text_is_in_two_pairs():
    """Group 1 repeats both prompts of group 0's pair, and has a pair of its own beside them."""
    answered = table([("a", "train", [M, R]), ("a", "train", [R, M, M, R, R])])
    answered["prompt"] = ["same", "other", "other", "same", "new m", "new r", "newest r"]
    found, rows = flips(answered, "order"), answered.reset_index(drop=True)
    assert rows.prompt[[*found.memory, *found.rule]].tolist() == ["same", "new m", "other", "new r"]
    assert flips(answered.iloc[:4], "order").shape[0] == 1


def test_a_text_stays_used_after_later_groups_have_pairs():
    """Group 2 repeats the prompts of group 0; group 1 between them has a pair of its own."""
    answered = table([("a", "train", [M, R])] * 3)
    answered["prompt"] = ["same m", "same r", "m", "r", "same m", "same r"]
    found = flips(answered, "order")
    assert list(zip(found.memory, found.rule)) == [(0, 1), (2, 3)]


def test_rephrasings_stand_beside_their_originals_and_no_original_among_them():
    found = rephrased(MIXED)
    assert found.prompt.tolist() == ["0/1", "0/2", "0/3", "0/4", "1/1", "1/2", "2/1", "2/2"]
    assert found.before.tolist() == [M] * 6 + [R] * 2
    assert found.same_answer.tolist() == [c == "order" for c in found.change]


def test_flip_rates_by_kind_of_change():
    found = flip_rates(MIXED).set_index(["split", "change", "direction"])
    counts = found[["n", "flipped", "n_keys", "same_answer"]]
    assert counts.loc[("train", "order", "m2g")].tolist() == [2, 2, 2, 1.0]
    # M first: group a (R, R, M) and b (R); R first: group c (M, X)
    assert counts.loc[("train", "content", "m2g")].tolist() == [4, 3, 2, 0.0]
    assert counts.loc[("train", "content", "g2m")].tolist() == [2, 1, 1, 0.0]
    assert counts.loc[("train", "order", "g2m")].tolist() == [0, 0, 0, 0.0]
    one_key = found.loc[("train", "content", "g2m")]
    assert np.isnan([one_key.key_low, one_key.key_high]).all()  # a single key shows no spread
    assert (one_key.low, one_key.high) == wilson(1, 2)


def test_the_interval_over_keys_is_wide_where_keys_decide():
    """40 rephrasings of each of 8 keys: the keys flip always or never, or every second time."""
    decided = [(f"key{k}", "test", [M] + [R if k % 2 else M] * 40) for k in range(8)]
    mixed = [(f"key{k}", "test", [M] + [R, M] * 20) for k in range(8)]
    wide, narrow = (
        flip_rates(table(groups)).query("change == 'order' and direction == 'm2g'").iloc[0]
        for groups in (decided, mixed)
    )
    assert wide.rate == narrow.rate == 0.5 and wide.n == narrow.n == 320
    assert narrow.key_high - narrow.key_low == 0 and wide.key_high - wide.key_low > 0.5
    assert (wide.low, wide.high) == (narrow.low, narrow.high) == wilson(160, 320)


def test_the_interval_over_keys_is_the_seeded_bootstrap_of_1000_draws():
    rng = np.random.default_rng(0)
    groups = [(f"key{k}", "test", [M, *rng.choice([M, R], 3 + k)]) for k in range(7)]
    asked = table(groups).query("rephrasing > 0")
    wins = (asked.behavior == R).to_numpy().astype(float)
    ends = {}
    for seed in (0, 5):
        found = flip_rates(table(groups), seed).query("change == 'order' and direction == 'm2g'")
        expected = bootstrap_by_key(
            np.mean, asked.key.to_numpy(), wins, seed=seed, n_resamples=1000
        )
        ends[seed] = found.key_low.item(), found.key_high.item()
        assert ends[seed] == pytest.approx((expected.low, expected.high))
    assert ends[0] != ends[5]
    assert flip_rates(table(groups)).equals(flip_rates(table(groups), 0))


def test_flip_rates_by_hand():
    found = flip_rates(ANSWERED)
    assert (found[found.change == "content"].n == 0).all()
    found = found[found.change == "order"].set_index(["split", "direction"])
    # train, memory first: groups a (R, R, X: two of three) and b (M, M, X: none of three); rule
    # first: group a (M, M, R, M: three of four)
    assert found.loc[("train", "m2g"), ["n", "flipped"]].tolist() == [6, 2]
    assert found.loc[("train", "g2m"), ["n", "flipped"]].tolist() == [4, 3]
    # test: no original is memory; rule first: c (R, M: one of two) and e (X, X: none of two)
    assert found.loc[("test", "m2g"), ["n", "flipped", "rate"]].tolist() == [0, 0, 0]
    assert found.loc[("test", "g2m"), ["n", "flipped", "rate"]].tolist() == [4, 1, 0.25]
    assert found.rate["train", "m2g"] == pytest.approx(1 / 3)


def test_no_flips_is_an_empty_table():
    found = flips(table([("a", "train", [M, M])]), "order")
    assert found.empty and list(found.columns) == ["memory", "rule", "key", "split"]
    states = np.zeros((2, 3))  # no pairs pick no rows
    assert states[found.memory.to_numpy()].shape == states[found.rule.to_numpy()].shape == (0, 3)


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
    # at most two rephrasings of each kind
    assert answered.groupby(["group", "change"]).size().max() == 2
    assert set(answered.change[answered.rephrasing > 0]) == {"order", "content"}
    assert (answered.change[answered.rephrasing == 0] == "").all()
    split_of = frame[frame.kind == "conflict"].drop_duplicates("key").set_index("key").split
    assert (answered.split == answered.key.map(split_of)).all()
    texts = originals.prompt.nunique()
    for change in CHANGES:  # every rephrasing of this task flips; a text is in one pair alone
        assert len(flips(answered, change)) >= texts * 0.5
    assert answered.equals(answer_conflicts(model, tokenizer, task, frame, 2))


def test_rephrasings_are_numbered_from_one_and_a_text_is_asked_once(planted, monkeypatch):
    model, tokenizer, task, frame, answered = planted()
    for _, group in answered.groupby("group"):
        assert group.rephrasing.tolist() == list(range(len(group)))
    asked, plain = [], pairs_module.shown

    def counted(model, tokenizer, task, rows, *more):
        asked.extend(row.prompt for row in rows)
        return plain(model, tokenizer, task, rows, *more)

    monkeypatch.setattr(pairs_module, "shown", counted)
    assert answer_conflicts(model, tokenizer, task, frame, 2).equals(answered)
    assert answered.prompt.duplicated().any()  # texts that stand in several groups
    assert len(asked) == answered.prompt.nunique() == len(set(asked))


def test_each_kind_of_change_of_each_prompt_draws_on_its_own(planted):
    """The numbers that a task draws to rephrase: the same again, others for another kind or prompt."""
    _, _, task, frame, _ = planted()
    originals = list(instances(frame[frame.kind == "conflict"].drop_duplicates("prompt")))[:4]
    task, drawn = copy.copy(task), {}

    def rephrase(rng, original, change):
        drawn.setdefault((original.prompt, change), []).append(int(rng.integers(2**62)))
        return None

    task.rephrase = rephrase
    for _ in range(2):
        for original in originals:
            for change in CHANGES:
                assert not list(rephrasings(task, original, change, 1, {original.prompt}))
    assert len(drawn) == 8
    for numbers in drawn.values():
        half = len(numbers) // 2
        assert numbers[:half] == numbers[half:]
    assert len({numbers[0] for numbers in drawn.values()}) == 8


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
    # cipher has one other order of a phrase, arithmetic two or more placements
    assert answered.groupby(["group", "change"]).size().max() == 3
    assert sizes.mean() > 4
    first = answered[answered.rephrasing == 0].set_index("group")
    order = answered[answered.change == "order"]
    assert (order.rule_answer == order.group.map(first.rule_answer)).all()
    assert (order.memory_answer == order.group.map(first.memory_answer)).all()
    assert (answered.kind == "conflict").all() and not answered.duplicated(
        ["group", "prompt"]
    ).any()
    assert set(answered.behavior) <= {M, R, X}
