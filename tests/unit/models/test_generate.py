"""Answers: greedy, the same however prompts are padded or batched, and counted as shares that sum
to one.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from memgen.models.build import build_model
from memgen.models.generate import (
    Sampling,
    answer,
    first_token_log_probabilities,
    next_token_scores,
    sample_answers,
    tokenize_prompts,
)
from memgen.models.tokenizer import build_tokenizer
from memgen.tasks import Instance, instances
from memgen.tasks.answers import accuracy, behaviors, rates
from memgen.terms import BEHAVIORS, CODE
from planted import PlantedAlike

NEW = 4
RAGGED = ["1+2=", "12+31+07=", "9=", "00+00+00+1=", "="]


@pytest.fixture(scope="module")
def random_model():
    tokenizer = build_tokenizer([*"0123456789", "+", "=", "<mem>"])
    model = build_model(
        tokenizer, n_layer=2, n_embd=16, n_head=2, n_positions=32, initializer_range=0.5, seed=0
    ).eval()
    return model, tokenizer


def by_hand(model, tokenizer, prompt: str) -> str:
    """One prompt, one token at a time, without a cache, padding or `generate`."""
    ids = tokenizer(prompt)["input_ids"]
    length = len(ids)
    for _ in range(NEW):
        with torch.no_grad():
            ids = [*ids, int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())]
        if ids[-1] == tokenizer.eos_token_id:
            ids.pop()
            break
    return tokenizer.decode(ids[length:])


def test_greedy_answers_are_the_step_by_step_argmax(random_model, datasets):
    prompts = list(datasets["arithmetic-tagged"][1].prompt[:40])
    answers = answer(*random_model, prompts, NEW)
    assert answers == [by_hand(*random_model, prompt) for prompt in prompts]
    assert len(set(answers)) > 5  # a constant would agree with anything


def test_ragged_prompts_are_padded_on_the_left_without_changing_answers(random_model):
    together = answer(*random_model, RAGGED, NEW)
    assert together == [by_hand(*random_model, prompt) for prompt in RAGGED]
    assert together == [answer(*random_model, [prompt], NEW)[0] for prompt in RAGGED]


def test_the_batch_size_changes_nothing(random_model, datasets):
    prompts = list(datasets["arithmetic-matched"][1].prompt[:13]) + RAGGED
    assert answer(*random_model, prompts, NEW, batch_size=4) == answer(*random_model, prompts, NEW)
    assert answer(*random_model, [], NEW) == []


def test_answers_end_at_the_end_mark(planted):
    model, tokenizer, *_ = planted()
    words = ["key0 word1 near-memory", "key0 word1 near-rule", "key0 word1 far-memory"]
    assert answer(model, tokenizer, words, 3) == ["M", "R", "M"]


def test_the_last_column_is_the_decision_position(random_model):
    ids, mask = tokenize_prompts(random_model[1], RAGGED)
    assert ids.shape == mask.shape == (5, 11)
    assert (ids[:, -1] == random_model[1].convert_tokens_to_ids("=")).all() and mask[:, -1].all()
    assert (ids[mask == 0] == random_model[1].pad_token_id).all()


def test_first_token_scores_equal_a_plain_forward(random_model):
    model, tokenizer = random_model
    log = first_token_log_probabilities(model, *tokenize_prompts(tokenizer, RAGGED))
    scores = next_token_scores(model, *tokenize_prompts(tokenizer, RAGGED))
    for i, prompt in enumerate(RAGGED):
        with torch.no_grad():
            plain = (
                model(torch.tensor([tokenizer(prompt)["input_ids"]])).logits[0, -1].log_softmax(-1)
            )
        torch.testing.assert_close(log[i], plain, rtol=1e-4, atol=1e-5)
        first, second = plain.sort(descending=True).values[:2].tolist()
        assert scores["answer_margin"][i] == pytest.approx(first - second, abs=1e-4)
        assert scores["entropy"][i] == pytest.approx(
            torch.distributions.Categorical(logits=plain).entropy().item(), abs=1e-4
        )


def test_codes_follow_the_names(datasets):
    assert [CODE[name] for name in BEHAVIORS] == [0, 1, 2]
    task, frame = datasets["inference"]
    rows = instances(frame[frame.kind == "conflict"])[:3]
    codes = behaviors(task, rows, [rows[0].memory_answer, rows[1].rule_answer, "neither"])
    assert codes.tolist() == [0, 1, 2] and codes.dtype == np.int8
    with pytest.raises(ValueError):
        behaviors(task, rows, ["one answer too few"])


@pytest.mark.parametrize(
    "codes, expected",
    [
        ([0, 0, 1, 2], (0.5, 0.25, 0.25)),
        ([1], (0.0, 1.0, 0.0)),
        ([2, 2, 2], (0.0, 0.0, 1.0)),
        ([0, 1] * 7 + [2], (7 / 15, 7 / 15, 1 / 15)),
    ],
)
def test_rates_are_shares_that_sum_to_one(codes, expected):
    found = rates(np.array(codes, dtype=np.int8))
    assert tuple(found.values()) == pytest.approx(expected) and sum(
        found.values()
    ) == pytest.approx(1)
    assert list(found) == ["memory_rate", "rule_rate", "other_rate"]


def test_accuracy_counts_what_was_trained_on():
    keyed = Instance("p", "rule", "memory", "k", "keyed")
    free = Instance("q", " 5", kind="free")
    assert accuracy([keyed, keyed, free, free], ["memory", "rule", "5", "6"]) == 0.5


def test_cold_samples_are_the_greedy_answer_and_warm_ones_follow_the_probabilities(planted):
    model, tokenizer, _, _, answered = planted(PlantedAlike)
    rows = answered[:6]
    cold = sample_answers(model, tokenizer, list(rows.prompt), 2, Sampling(4, 1e-3, 0))
    assert cold == [[text] * 4 for text in rows.answer]
    random = build_model(
        tokenizer, n_layer=1, n_embd=16, n_head=2, n_positions=16, initializer_range=0.5, seed=1
    ).eval()
    with torch.inference_mode():
        shares = (
            random(
                **tokenizer(rows.prompt.iloc[0], return_tensors="pt", return_token_type_ids=False)
            )
            .logits[0, -1]
            .softmax(-1)
            .numpy()
        )
    warm = sample_answers(random, tokenizer, [rows.prompt.iloc[0]], 1, Sampling(3000, 1.0, 0))[0]
    likely, rare = np.argsort(shares)[::-1][:5], np.argsort(shares)[::-1][5:40]
    for tokens in (*likely[:, None], rare):  # the whole vocabulary is drawn from, not its top only
        texts, expected = (
            {
                "" if token == tokenizer.eos_token_id else tokenizer.decode([token])
                for token in tokens
            },
            float(shares[tokens].sum()),
        )
        assert expected > 0.005 and np.mean([text in texts for text in warm]) == pytest.approx(
            expected, abs=4 * np.sqrt(expected / 3000)
        )


def test_samples_depend_on_the_seed_only_and_leave_the_stream_alone(planted):
    model, tokenizer, *_, answered = planted()
    prompts = list(answered.prompt[:5])
    before = torch.random.get_rng_state()
    first, again, other = (
        sample_answers(model, tokenizer, prompts, 2, Sampling(8, 1.0, seed)) for seed in (1, 1, 2)
    )
    assert first == again != other and [len(texts) for texts in first] == [8] * 5
    assert torch.equal(before, torch.random.get_rng_state())
    assert sample_answers(model, tokenizer, [], 2, Sampling(8, 1.0, 1)) == []
