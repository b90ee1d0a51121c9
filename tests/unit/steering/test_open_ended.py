"""Answers in free text, by every road: held against transformers' `generate` and a rule on strings."""

from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from memgen.models.endings import ends_of
from memgen.models.forced import Decisions, Expected, behaviors_met, told
from memgen.models.generate import next_token_scores, tokenize_prompts
from memgen.models.hooks import capture, shift
from memgen.models.shown import accuracy, shown
from memgen.models.tokenizer import build_tokenizer
from memgen.neurons.nmd import NeuronMaps
from memgen.steering.answers import behaviors_of, written
from memgen.steering.editing import Writer
from memgen.steering.steering import Steering
from memgen.tasks import Inference, Instance
from memgen.tasks.given import begins
from memgen.terms import CODE, GENERALIZATION, MEMORIZATION, OTHER

WORDS = [" To", " Lis", " Rom", "kyo", "bon", "e", ".", "-", "'s"]
LENGTH = 4
OTHER_CODE = CODE[OTHER]


class Open(Inference):
    open_ended = True
    max_answer_tokens = LENGTH


@pytest.fixture(scope="module")
def asked():
    """A random LLaMA, and prompts whose answers are what it writes, nearly what it writes, or neither."""
    tokenizer = build_tokenizer(WORDS)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=32,
        initializer_range=1.0,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=1,
    )
    torch.manual_seed(1)
    model = LlamaForCausalLM(config).eval()
    rng = np.random.default_rng(0)
    prompts = sorted({"".join(rng.choice(WORDS, rng.integers(2, 8))) for _ in range(90)})
    rows = []
    for prompt, text in zip(prompts, generated(model, tokenizer, prompts)):
        pieces = tokenizer(text, add_special_tokens=False)["input_ids"]
        own = tokenizer.decode(pieces[: rng.integers(1, LENGTH)])
        answers = [own, rng.choice(WORDS) + rng.choice(WORDS)]
        memory, rule = (answers[i] for i in rng.permutation(2))
        if memory != rule and "" not in answers and "<" not in own:  # no marks, which are no text
            rows.append(Instance(prompt, str(rule), str(memory), "a key", "conflict"))
    return model, tokenizer, rows


def test_what_passes_hold_at_the_decision_is_what_passes_over_the_prompts_hold(asked):
    """And the answers stay as they are. A task that is not open-ended has its passes read, too."""
    model, tokenizer, rows = asked
    prompts = [row.prompt for row in rows]
    ids, mask = tokenize_prompts(tokenizer, prompts)
    expected = {"resid_post": capture(model, ids, mask).numpy()}
    expected |= next_token_scores(model, ids, mask)
    decisions, alike = Decisions(), Decisions()
    texts, codes = shown(model, tokenizer, Open(3, 0), rows, decisions)
    plain = shown(model, tokenizer, Open(3, 0), rows)
    assert texts == plain[0] and (codes == plain[1]).all()
    memory, rule = (
        Expected.of(tokenizer, prompts, answers)
        for answers in ([r.memory_answer for r in rows], [r.rule_answer for r in rows])
    )
    told(model, memory, rule, alike)
    for found in (decisions.arrays(), alike.arrays()):
        assert list(found) == list(expected)
        for name, values in expected.items():
            assert found[name].dtype == np.float32
            np.testing.assert_allclose(found[name], values, rtol=1e-3, atol=1e-4)
    assert Decisions().arrays() == {}


def generated(model, tokenizer, prompts) -> list[str]:
    ids, mask = tokenize_prompts(tokenizer, prompts)
    said = model.generate(
        input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=LENGTH
    )[:, ids.shape[1] :]
    return [tokenizer.decode(row[: _until_end(row)]) for row in said]


def _until_end(row) -> int:
    return (row.tolist() + [1]).index(1)


def by_the_rule(rows, texts) -> np.ndarray:
    """Whole words, and whole answers: what is written goes on with no letter, hyphen, apostrophe."""
    codes = []
    for row, text in zip(rows, texts):
        fits = [
            name
            for name, answer in (
                (MEMORIZATION, row.memory_answer),
                (GENERALIZATION, row.rule_answer),
            )
            if begins(
                "x" + text, "x" + answer
            )  # `begins` strips: here a space is a letter of the answer
        ]
        codes.append(CODE[fits[0] if fits else OTHER])
    return np.array(codes)


def test_all_roads_lead_to_what_generate_and_the_rule_say(asked):
    model, tokenizer, rows = asked
    texts, codes = shown(model, tokenizer, Open(3, 0), rows)
    reference = generated(model, tokenizer, [row.prompt for row in rows])
    expected = by_the_rule(rows, reference)
    assert all(whole.startswith(seen) and seen for whole, seen in zip(reference, texts))
    answers = [
        (row.memory_answer, row.rule_answer, None)[code] for row, code in zip(rows, expected)
    ]
    assert all(answer in (text, None) for answer, text in zip(answers, texts))
    assert {0, 1, 2} == set(expected)  # else nothing is compared
    assert codes.tolist() == expected.tolist()

    ends = ends_of(tokenizer, Open(3, 0))
    memory, rule = (
        Expected.of(tokenizer, [r.prompt for r in rows], [getattr(r, side) for r in rows], ends)
        for side in ("memory_answer", "rule_answer")
    )
    assert behaviors_met(model, memory, rule).tolist() == expected.tolist()
    closed = [replace(one, ends=None) for one in (memory, rule)]
    assert (behaviors_met(model, *closed) == OTHER_CODE).sum() > (expected == OTHER_CODE).sum()


@pytest.mark.parametrize("positions", ["all", "decision"])
def test_steered_answers_and_their_leads(asked, positions):
    model, tokenizer, rows = asked
    frame = pd.DataFrame([asdict(row) for row in rows])
    shifts = (
        np.random.default_rng(2).normal(size=(5, 2, 16)) * np.array([0, 1, 1, 2, 2])[:, None, None]
    )
    maps = NeuronMaps("resid_post", shifts[1], shifts[1])
    steering = Steering(model, tokenizer, Open(3, 0), maps, positions)
    codes = steering.outcomes(shifts, frame)
    for delta, found in zip(shifts, codes):
        with shift(model, "resid_post", torch.from_numpy(delta).float(), positions):
            texts = generated(model, tokenizer, list(frame.prompt))
        assert found.tolist() == by_the_rule(rows, texts).tolist()
    tokens = written(steering, shifts, steering.prompts(frame))
    candidates = steering.prompts(frame).candidates.numpy()
    assert (behaviors_of(tokens, candidates, *steering.marks) == codes).all()
    every = np.arange(codes.size)
    for code in (0, 1):
        leads = steering.leads(shifts, frame, code)(every // len(rows), every % len(rows))
        ahead = (leads > 0).reshape(codes.shape)
        assert (ahead[codes == code]).all() and not (ahead[codes == OTHER_CODE]).any()


def test_a_writer_tells_the_same(asked):
    model, tokenizer, rows = asked
    frame = pd.DataFrame([asdict(row) for row in rows])
    maps = NeuronMaps("resid_post", np.zeros((2, 16)), np.zeros((2, 16)))
    steering = Steering(model, tokenizer, Open(3, 0), maps)
    prompts = steering.prompts(frame)
    expected = by_the_rule(rows, generated(model, tokenizer, list(frame.prompt)))
    assert Writer.of(steering).write(prompts).codes(prompts).tolist() == expected.tolist()


def test_a_free_prompt_has_no_memory_to_be_right_by(asked):
    model, tokenizer, rows = asked
    codes = shown(model, tokenizer, Open(3, 0), rows)[1]
    free = [replace(row, memory_answer="", kind="free") for row in rows]
    assert accuracy(model, tokenizer, Open(3, 0), free) == pytest.approx((codes == 1).mean())
    assert not (shown(model, tokenizer, Open(3, 0), free)[1] == 0).any()
