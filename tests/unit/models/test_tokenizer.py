"""Tokenizers: text in, the same text out, for every prompt and answer of every task."""

from __future__ import annotations

import pytest
from transformers import AutoTokenizer

from memgen.models import tokenizer as module
from memgen.models.tokenizer import build_tokenizer, token_ids
from memgen.tasks import TASKS


@pytest.mark.parametrize("name", TASKS)
def test_encode_then_decode_is_the_identity(datasets, name):
    task, frame = datasets[name]
    tokenizer = build_tokenizer(task.vocabulary())
    for column in ("prompt", "rule_answer", "memory_answer"):
        texts = sorted(set(frame[column]) - {""})
        encoded = tokenizer(texts)["input_ids"]
        assert tokenizer.unk_token_id not in {token for ids in encoded for token in ids}
        assert [tokenizer.decode(ids) for ids in encoded] == texts


@pytest.mark.parametrize("name", TASKS)
def test_prompts_of_a_task_have_one_length_and_answers_fit(datasets, name):
    task, frame = datasets[name]
    tokenizer = build_tokenizer(task.vocabulary())
    assert len({len(ids) for ids in tokenizer(list(frame.prompt))["input_ids"]}) == 1
    longest = max(
        len(ids)
        for column in ("rule_answer", "memory_answer")
        for ids in tokenizer(list(frame[column]))["input_ids"]
    )
    assert longest + 1 <= task.max_answer_tokens  # the end mark comes on top


def test_longest_piece_first_unknown_text_and_the_special_tokens():
    tokenizer = build_tokenizer(["a", "ab", " is white"])
    assert tokenizer.convert_ids_to_tokens(tokenizer("aba is white")["input_ids"]) == [
        "ab",
        "a",
        " is white",
    ]
    assert tokenizer.unk_token_id in tokenizer("a?b")["input_ids"]
    assert (tokenizer.pad_token, tokenizer.eos_token, tokenizer.padding_side) == (
        "<pad>",
        "<eos>",
        "left",
    )
    assert len({tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id}) == 3


def test_it_survives_saving(tmp_path, datasets):
    task, frame = datasets["cipher-tagged"]
    tokenizer = build_tokenizer(task.vocabulary())
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    texts = list(frame.prompt[:20])
    assert again(texts)["input_ids"] == tokenizer(texts)["input_ids"]
    assert (
        again.decode(again("<mem>abc")["input_ids"]) == "<mem>abc"
        and again.eos_token_id == tokenizer.eos_token_id
    )


def test_a_piece_named_twice_is_refused():
    with pytest.raises(ValueError, match="twice"):
        build_tokenizer(["a", "b", "a"])


def test_texts_that_come_again_get_their_own_tokens_in_every_portion(monkeypatch):
    """Portions of three texts; some texts come again within one, some in a later one."""
    tokenizer = build_tokenizer(["a", "ab", "b", "c"])
    texts = ["abc", "c", "abc", "", "cc", "b", "c", "aab", "abc"]
    asked = []
    monkeypatch.setattr(module, "AT_ONCE", 3)

    def counted(some, **how):
        asked.extend(some)
        return tokenizer(some, **how)

    assert token_ids(counted, texts) == tokenizer(texts)["input_ids"]
    assert sorted(asked) == sorted(set(texts))
    assert token_ids(tokenizer, []) == []
