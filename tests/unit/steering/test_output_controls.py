"""Controls at the output: what they forbid, force and add, and that they leave all else to the model."""

from __future__ import annotations

import copy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers.processors import TemplateProcessing

from memgen.models.build import build_model
from memgen.models.tokenizer import build_tokenizer
from memgen.neurons.nmd import NeuronMaps
from memgen.steering.cells import Cell, cumulative_norm
from memgen.steering.engine import Decoding, run_cells
from memgen.steering.kept import Kept
from memgen.steering.output_controls import (
    OUTPUT_CONTROLS,
    answered_from,
    forbidding,
    forcing,
    output_controls,
    unembedding_direction,
    unembedding_shifts,
)
from memgen.steering.prompts import Prompts, make_prompts
from memgen.steering.steering import Steering, steering_prompts
from memgen.steering.trial import Trial
from memgen.terms import DIRECTIONS
from steered import ONE

WORDS = ["a", "b", "c", "d", "e", "f"]


class Bench:
    """A random model; candidates are its own greedy answer, and one that differs in its first token."""

    def __init__(self, architecture, kept=None):
        self.kept = kept
        self.tokenizer = build_tokenizer(WORDS)
        self.end, self.task = self.tokenizer.eos_token_id, SimpleNamespace(max_answer_tokens=3)
        self.marks = (self.end, None)
        given = {"n_layer": 2, "n_embd": 16, "n_head": 2, "n_positions": 16}
        model = build_model(
            self.tokenizer, **given, initializer_range=0.6, seed=3, architecture=architecture
        )
        self.model, rng = model.eval(), np.random.default_rng(0)
        self.texts = ["".join(rng.choice(WORDS, rng.integers(2, 6))) for _ in range(40)]
        own = [self.greedy(text) for text in self.texts]
        words = self.tokenizer.convert_tokens_to_ids(WORDS)
        for text, answer in zip(self.texts, own):  # half of the second ones are what forcing gives
            other = next(token for token in words if token != answer[0])
            forced = self.greedy(text, other)
            own[self.texts.index(text)] = (
                answer,
                forced if rng.random() < 0.5 else [other, -1, -1],
            )
        ids = make_prompts(self.tokenizer, self.texts, ["a"] * 40, ["b"] * 40)
        self.prompts = Prompts(ids.input_ids, ids.attention_mask, torch.tensor(own))

    def scores(self, tokens):
        with torch.inference_mode():
            return self.model(input_ids=torch.tensor([tokens])).logits[0, -1]

    def greedy(self, text, first=None):
        """One prompt, one token at a time, without a cache: three tokens, -1 after the end."""
        prompt, answer = self.tokenizer(text)["input_ids"], []
        while len(answer) < 3 and self.end not in answer:
            given = first is not None and not answer
            answer.append(first if given else int(self.scores(prompt + answer).argmax()))
        return answer + [-1] * (3 - len(answer))


@pytest.fixture(scope="module", params=["gpt2", "llama", "kept passes"])
def bench(request):
    return Bench("llama", Kept()) if request.param == "kept passes" else Bench(request.param)


def codes_of(bench, answers):
    """0 memory, 1 rule, 2 other."""
    pairs = zip(answers, bench.prompts.candidates.tolist())
    return [pair.index(answer) if answer in pair else 2 for answer, pair in pairs]


def test_with_nothing_forbidden_the_answers_are_the_engines(bench):
    nothing = torch.full((len(bench.prompts),), -1)
    found = answered_from(bench, bench.prompts, forbidding(nothing))
    decoding = Decoding(max_new_tokens=3, eos_token_id=bench.end)
    engine = run_cells(bench.model, bench.prompts, torch.zeros(1, 2, 16), decoding)[0]
    assert found.tolist() == engine.tolist() == [0] * 40
    swapped = replace(bench.prompts, candidates=bench.prompts.candidates.flip(1).roll(1, 0))
    engine = run_cells(bench.model, swapped, torch.zeros(1, 2, 16), decoding)[0]
    assert answered_from(bench, swapped, forbidding(nothing)).tolist() == engine.tolist()


def test_forbidding_and_forcing_are_what_a_loop_over_tokens_does(bench):
    source, target = bench.prompts.candidates[:, :, 0].unbind(1)
    seconds = []
    for text, token in zip(bench.texts, source.tolist()):
        scores = bench.scores(bench.tokenizer(text)["input_ids"]).clone()
        scores[token] = -torch.inf
        seconds.append(int(scores.argmax()))
    for first, tokens in ((forbidding(source), seconds), (forcing(target), target.tolist())):
        found = answered_from(bench, bench.prompts, first)
        expected = [bench.greedy(text, token) for text, token in zip(bench.texts, tokens)]
        assert found.tolist() == codes_of(bench, expected)
        assert not (found == 0).any()
    assert 10 < (found == 1).sum() < 30  # forcing gives the target where it was planted


def test_an_answer_whose_first_token_is_the_end_has_ended(bench):
    ends = torch.full((len(bench.prompts),), bench.end)
    candidates = torch.tensor([[[0, 0, 0], [bench.end, -1, -1]]]).repeat(len(ends), 1, 1)
    found = answered_from(bench, replace(bench.prompts, candidates=candidates), forcing(ends))
    assert (found == 1).all()


def test_the_direction_is_the_mean_difference_of_output_rows_on_train_pairs(alike):
    steering, _, answered = alike
    token = steering.tokenizer.convert_tokens_to_ids
    weights = steering.model.lm_head.weight.detach().numpy()
    found = unembedding_direction(steering, answered)
    np.testing.assert_allclose(found, weights[token("R")] - weights[token("M")], atol=1e-6)
    elsewhere = answered.assign(
        rule_answer=answered.rule_answer.where(answered.split == "train", "X")
    )
    np.testing.assert_array_equal(unembedding_direction(steering, elsewhere), found)
    assert not unembedding_direction(steering, answered[answered.split != "train"]).any()


def test_a_mark_before_any_text_is_no_first_token(alike):
    """As tokenizers of pretrained models set one."""
    steering, _, answered = alike
    begins = copy.deepcopy(steering.tokenizer)
    begins._tokenizer.post_processor = TemplateProcessing(
        single="<eos> $A", special_tokens=[("<eos>", begins.eos_token_id)]
    )
    assert begins("M")["input_ids"][0] == begins.eos_token_id
    marked = Steering(steering.model, begins, steering.task, steering.maps)
    expected = unembedding_direction(steering, answered)
    assert expected.any()
    np.testing.assert_array_equal(unembedding_direction(marked, answered), expected)


def test_output_directions_have_the_shifts_norm_and_cumulative_norm():
    rng = np.random.default_rng(0)
    reference, direction = rng.normal(size=(3, 16)), rng.normal(size=16)
    found = unembedding_shifts(direction, reference)
    last, everywhere = found["unembedding_last"], found["unembedding_all"]
    assert not last[:-1].any()
    assert np.linalg.norm(last) == pytest.approx(np.linalg.norm(reference))
    assert cumulative_norm(everywhere) == pytest.approx(cumulative_norm(reference))
    assert (everywhere == everywhere[0]).all()
    for row in (last[-1], everywhere[0]):
        assert row @ direction == pytest.approx(np.linalg.norm(row) * np.linalg.norm(direction))
    assert unembedding_shifts(0 * direction, reference) == {}


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_on_the_planted_model_one_token_is_the_whole_behaviour(alike, direction):
    """Its answers are one token, M or R, so forcing is success. Without R it says M, its second
    choice; without M it says something else, as the planted lines have it.
    """
    steering, _, answered = alike
    rows = steering_prompts(answered, "test", direction, 20)
    trial = Trial(steering, direction, Cell(ONE, 1.0), rows)
    output = unembedding_direction(steering, answered)
    bars, facts, answers = output_controls(trial, output)
    assert tuple(bars) == OUTPUT_CONTROLS
    assert [bar.name for bar in bars.values()] == list(OUTPUT_CONTROLS)
    assert answers.index.tolist() == list(range(4 * len(rows)))
    assert bars["force_target"].success == 1.0
    forbidden = bars["forbid_source"]
    assert (forbidden.success, forbidden.other) == (
        (0.0, 1.0) if direction == "m2g" else (1.0, 0.0)
    )
    assert facts == {"by_construction": 1.0, "same_first_token": 0.0}
    assert bars["force_target"].norm is None
    assert bars["unembedding_last"].norm == pytest.approx(np.linalg.norm(trial.shift))
    (codes,) = trial.run([unembedding_shifts(output, trial.shift)["unembedding_last"]])
    assert bars["unembedding_last"].success == trial.summary(codes)["success"]
    by_kind = answers.groupby("kind").success.mean()
    assert by_kind.to_dict() == {name: bar.success for name, bar in bars.items()}

    without, _, answers = output_controls(trial, 0 * output)
    assert without["unembedding_all"].success is None and without["unembedding_all"].n == 0
    assert [bar.name for bar in without.values()] == list(OUTPUT_CONTROLS)
    assert set(answers.kind) == {"forbid_source", "force_target"}


def test_answers_that_begin_alike_are_counted(alike):
    steering, _, answered = alike
    rows = steering_prompts(answered, "test", "m2g", 20)
    half = pd.Series(np.arange(len(rows)) % 2 == 0, index=rows.index)
    longer = rows.assign(rule_answer=rows.rule_answer.where(half, "MR"))
    trial = Trial(steering, "m2g", Cell(ONE, 1.0), longer)
    _, facts, _ = output_controls(trial, np.zeros(8))
    assert facts == {"by_construction": half.mean(), "same_first_token": 1 - half.mean()}


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_output_directions_are_added_to_the_residual_stream_whatever_the_trials_site(
    alike, direction
):
    """What the norm before a feed-forward part writes leads nowhere there: its map is 0."""
    steering, _, answered = alike
    rows = steering_prompts(answered, "test", direction, 12)
    inside = steering.at(NeuronMaps("ln_2", steering.nmd, steering.rho))
    output = np.eye(8)[0]  # coordinate 0 decides
    found = {}
    for site, one in (("resid_post", steering), ("ln_2", inside)):
        bars, _, _ = output_controls(Trial(one, direction, Cell(ONE, 1.0), rows), output)
        found[site] = {name: bars[name] for name in ("unembedding_last", "unembedding_all")}
    assert found["resid_post"]["unembedding_last"].success == 1.0
    assert found["ln_2"] == found["resid_post"]


def test_the_end_mark_counts_whatever_its_number(alike, monkeypatch):
    """In some vocabularies it is token 0."""
    steering, _, answered = alike
    rows = steering_prompts(answered, "test", "m2g", 12)
    made, end = steering.prompts(rows), steering.tokenizer.eos_token_id
    assert (made.candidates == end).any() and not (made.candidates == 0).any()
    zero = replace(made, candidates=made.candidates.masked_fill(made.candidates == end, 0))
    monkeypatch.setattr(steering, "prompts", lambda rows: zero)
    _, facts, _ = output_controls(Trial(steering, "m2g", Cell(ONE, 1.0), rows), np.zeros(8))
    assert facts["by_construction"] == 1.0
