"""Answers decided in one pass: the same that greedy decoding gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from memgen.models.build import build_model
from memgen.models.forced import Expected, behaviors_met
from memgen.models.generate import answer
from memgen.models.tokenizer import build_tokenizer
from memgen.terms import CODE

NEW = 4
PIECES = [*"0123456789", "+", "="]


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def random_model(request):
    """One that ends answers of all lengths: the end mark's logit is raised."""
    tokenizer = build_tokenizer(PIECES)
    model = build_model(
        tokenizer,
        architecture=request.param,
        n_layer=2,
        n_embd=16,
        n_head=2,
        n_positions=32,
        initializer_range=0.5,
        seed=3,
    ).eval()
    return model, tokenizer


@pytest.fixture(scope="module")
def answered(random_model):
    """Prompts of several lengths, what the model answers, and which answers end."""
    draw = np.random.default_rng(0)
    prompts = ["".join(draw.choice(PIECES, draw.integers(1, 9))) + "=" for _ in range(400)]
    model, tokenizer = random_model
    texts = answer(model, tokenizer, prompts, NEW)
    longer = answer(model, tokenizer, prompts, NEW + 1)
    # an answer that goes on has more room to do so; the special pieces cannot be written as a text
    ended = np.array([a == b and "<" not in a for a, b in zip(texts, longer)])
    assert 20 < ended.sum() < 400 and len({len(t) for t, e in zip(texts, ended) if e}) > 1
    return prompts, texts, ended


def altered(text: str, place: int) -> str:
    """The text with another digit at a place, or one more at its end."""
    place = min(place, len(text))
    other = "1" if text[place : place + 1] == "0" else "0"
    return text[:place] + other + text[place + 1 :]


def test_an_answer_is_met_exactly_if_the_model_writes_it(random_model, answered):
    model, tokenizer = random_model
    prompts, texts, ended = answered
    chosen = [i for i in range(len(prompts)) if ended[i]]
    own = Expected.of(tokenizer, [prompts[i] for i in chosen], [texts[i] for i in chosen])
    assert own.met(model).all()
    for place in range(3):
        wrong = [altered(texts[i], place) for i in chosen]
        assert not Expected.of(tokenizer, [prompts[i] for i in chosen], wrong).met(model).any()
    beginning = Expected.of(
        tokenizer, [prompts[i] for i in chosen], [texts[i][:-1] for i in chosen]
    )
    assert not beginning.met(model)[[texts[i] != "" for i in chosen]].any()  # ends too early


def test_behaviours_are_those_of_the_written_answers(random_model, answered):
    """Either answer is the model's own, begins like it, is another one, or both are the same."""
    model, tokenizer = random_model
    # those that end are few: each of them often, with other candidates
    often = [i for i, ends in enumerate(answered[2]) for _ in range(10 if ends else 1)]
    prompts, texts, ended = ([part[i] for i in often] for part in answered)
    draw = np.random.default_rng(1)
    memory, rule, expected = [], [], []
    for text, ends in zip(texts, ended):
        text = text if "<" not in text else "7"
        kinds = [text, *(altered(text, place) for place in range(3)), "5"]
        one, other = (str(draw.choice(kinds)) for _ in range(2))
        memory.append(one), rule.append(other)
        shown = "other"
        if ends and one == text:
            shown = "memorization"
        elif ends and other == text:
            shown = "generalization"
        expected.append(CODE[shown])
    codes = behaviors_met(
        model,
        Expected.of(tokenizer, prompts, memory),
        Expected.of(tokenizer, prompts, rule),
    )
    assert codes.dtype == np.int8 and codes.tolist() == expected
    assert min(np.bincount(expected, minlength=3)) > 5


def test_batches_and_the_models_mode_change_nothing(random_model, answered, monkeypatch):
    model, tokenizer = random_model
    prompts, texts, _ = answered
    expected = Expected.of(tokenizer, prompts, ["12"] * len(prompts))
    whole = expected.said(model)
    monkeypatch.setattr("memgen.models.forced.ROWS", 7)
    model.train()
    assert torch.equal(expected.said(model), whole) and model.training
    model.eval()
    some = torch.tensor([5, 0, 300])
    assert torch.equal(expected[some].said(model), whole[some])


def test_no_prompts_are_no_answers_and_uneven_lists_are_refused(random_model):
    model, tokenizer = random_model
    assert Expected.of(tokenizer, [], []).met(model).shape == (0,)
    with pytest.raises(ValueError, match="2 prompts with 1 answers"):
        Expected.of(tokenizer, ["1=", "2="], ["1"])
