"""Features are of the prompt alone, one column is one place, and scales come from train."""

import numpy as np
import pandas as pd
import pytest

from memgen.models.tokenizer import build_tokenizer
from memgen.neurons.prompt_features import one_hot, prompt_features, role_matrix
from memgen.tasks import TASKS, instances


@pytest.mark.parametrize("name", TASKS)
def test_every_task_gives_features_of_its_conflict_prompts(datasets, name):
    task, frame = datasets[name]
    tokenizer = build_tokenizer(task.vocabulary())
    rows = frame[frame.kind == "conflict"].reset_index(drop=True)
    train, test = (rows[rows.split == split].reset_index(drop=True) for split in ("train", "test"))
    old, new = prompt_features(task, tokenizer, train, test)
    assert len(old.tokens) == len(old.roles) == len(train) and len(new.tokens) == len(test)
    assert (old.nearness is None) == (name == "inference")
    for features, asked in ((old, train), (new, test)):
        if name != "inference":
            near = [task.nearness(one) for one in instances(asked)]
            assert features.nearness.tolist() == near and features.nearness.dtype == np.float64
    assert len(set(old.cells)) > 1  # the position is part of the cell
    blind = train.assign(memory_answer=train.memory_answer, split="test", kind="conflict")
    again, _ = prompt_features(task, tokenizer, blind, test)
    pd.testing.assert_frame_equal(again.roles, old.roles)
    ids = tokenizer(list(train.prompt[:1]), add_special_tokens=False)["input_ids"][0]
    assert list(old.tokens[0, -len(ids) :]) == ids


def test_shorter_prompts_end_in_the_same_column(planted):
    _, tokenizer, task, _, answered = planted()
    short = answered[:3].assign(prompt="near-rule")
    old, new = prompt_features(task, tokenizer, answered[:5], short)
    assert old.tokens.shape[1] == new.tokens.shape[1] == 3
    assert (new.tokens[:, -1] == tokenizer.convert_tokens_to_ids("near-rule")).all()
    assert old.roles.shape == (5, 0) and old.nearness is None


def test_each_table_has_the_tokens_of_its_own_prompts(planted):
    _, tokenizer, task, _, answered = planted()
    parts = answered[:5], answered[5:7], answered[7:14]
    for rows, found in zip(parts, prompt_features(task, tokenizer, *parts), strict=True):
        assert found.tokens.tolist() == tokenizer(list(rows.prompt))["input_ids"]


def test_no_prompts_are_no_error(planted):
    _, tokenizer, task, _, answered = planted()
    for parts in ((answered[:0], answered[:0]), (answered[:4], answered[:0])):
        old, new = prompt_features(task, tokenizer, *parts)
        assert len(old.tokens) == len(parts[0]) and len(new.tokens) == len(new.cells) == 0
        assert old.tokens.dtype == new.tokens.dtype == np.int64


def test_one_hot_has_a_column_for_what_train_holds_in_a_place():
    train, test = one_hot(np.array([[1, 5], [2, 5], [1, 6]]), np.array([[2, 6], [3, 1]]))
    assert train.tolist() == [[1, 0, 1, 0], [0, 1, 1, 0], [1, 0, 0, 1]]
    assert test.tolist() == [[0, 1, 0, 1], [0, 0, 0, 0]]


def test_numbers_are_scaled_by_train_and_categories_are_those_of_train():
    train = pd.DataFrame({"third": [0.0, 2.0], "slot": ["a", "b"], "flat": [3.0, 3.0]})
    test = pd.DataFrame({"third": [5.0], "slot": ["c"], "flat": [4.0]})
    old, new = role_matrix(train, test)
    assert old.tolist() == [[-1, 1, 0, 0], [1, 0, 1, 0]]
    assert new.tolist() == [[4, 0, 0, 1]]
    old, new = role_matrix(  # mean 2 and spread 4 of train; test has other ones
        pd.DataFrame({"third": [-2.0, 6.0]}), pd.DataFrame({"third": [2.0, 4.0, 10.0]})
    )
    assert old.tolist() == [[-1], [1]] and new.tolist() == [[0], [0.5], [2]]
    assert role_matrix(train, test[:0])[1].shape == role_matrix(train, pd.DataFrame())[1].shape
