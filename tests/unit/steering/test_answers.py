"""Written answers are those of a plain loop; mixed ones are told from broken ones."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from memgen.models.build import build_model
from memgen.models.hooks import position_ids, shift
from memgen.models.tokenizer import build_tokenizer
from memgen.neurons.nmd import NeuronMaps
from memgen.steering.answers import beginnings, behaviors_of, written
from memgen.steering.prompts import make_prompts
from memgen.steering.steering import Steering
from memgen.terms import CODE

END = 99


STEERED = {
    "throughout": (True, True),
    "until_first_token": (True, False),
    "after_first_token": (False, True),
}  # the first token, the later ones


MATCHED = np.array([[[3, 9, 1, END], [8, 0, 2, END]]])


TAGGED = np.array([[[50, 3, 9, 1, END], [8, 0, 2, END, -1]]])


@pytest.mark.parametrize(
    "candidates, answer, kind",
    [
        (MATCHED, [3, 0, 1], 2),
        (MATCHED, [8, 9, 5], 2),
        (MATCHED, [3, 5, 1], 1),
        (MATCHED, [5, 0, 2], 0),
        (MATCHED, [3, 2, 5], 1),  # 2 stands at another place
        (TAGGED, [50, 8, 0, 2], 2),
        (TAGGED, [50, 5, 0, 7], 2),
        (TAGGED, [50, 3, 8, 7], 1),
        (TAGGED, [8, 9, 5], 2),
        (TAGGED, [8, 3, 5], 1),
        (TAGGED, [7, 3, 9], 0),
    ],
)
def test_mixed_answers_are_told_from_broken_ones(candidates, answer, kind):
    tokens = np.full((1, 5), -1)
    tokens[0, : len(answer) + 1] = [*answer, END]
    assert beginnings(tokens, candidates).tolist() == [kind]
    assert behaviors_of(tokens, candidates).tolist() == [CODE["other"]]


def test_behaviours_are_read_from_tokens_with_the_end_mark():
    tokens = np.array(
        [[[3, 9, 1, END, -1]], [[8, 0, 2, END, -1]], [[8, 0, 2, 2, END]], [[8, 0, 2, 7, 7]]]
    )
    assert behaviors_of(tokens, MATCHED)[:, 0].tolist() == [0, 1, 2, 2]


@pytest.mark.parametrize(
    "phase, positions", [*((phase, "all") for phase in STEERED), ("until_first_token", "decision")]
)
def test_written_answers_are_those_of_a_plain_loop_without_cache(phase, positions):
    """One step at a time, the whole text read anew, steered in the steps that the phase names."""
    tokenizer = build_tokenizer([f"w{i} " for i in range(12)])
    model = build_model(
        tokenizer, n_layer=2, n_embd=16, n_head=2, n_positions=16, initializer_range=0.6, seed=1
    ).eval()
    steering = Steering(
        model,
        tokenizer,
        SimpleNamespace(max_answer_tokens=4),
        NeuronMaps("resid_post", np.zeros((2, 16)), np.zeros((2, 16))),
        positions,
    )
    rng = np.random.default_rng(0)
    texts = [
        "".join(f"w{i} " for i in rng.integers(0, 12, size=length)) for length in (3, 5, 4, 2, 5, 3)
    ]
    prompts = make_prompts(tokenizer, texts, ["w1 "] * 6, ["w2 "] * 6)
    deltas = rng.normal(0, 1.5, size=(3, 2, 16)).astype(np.float32)
    found, (first, later) = written(steering, deltas, prompts, phase), STEERED[phase]
    for c, delta in enumerate(torch.from_numpy(deltas)):
        ids, mask = prompts.input_ids, prompts.attention_mask
        for step in range(4):
            with (
                torch.inference_mode(),
                shift(
                    model,
                    "resid_post",
                    delta if (later if step else first) else 0 * delta,
                    positions,
                ),
            ):
                chosen = (
                    model(input_ids=ids, attention_mask=mask, position_ids=position_ids(mask))
                    .logits[:, -1]
                    .argmax(-1)
                )
            ids, mask = (
                torch.cat([ids, chosen[:, None]], 1),
                torch.nn.functional.pad(mask, (0, 1), value=1),
            )
        expected = ids[:, prompts.input_ids.shape[1] :].numpy()
        ended = (
            np.cumsum(expected == tokenizer.eos_token_id, 1) - (expected == tokenizer.eos_token_id)
            > 0
        )
        assert found[c].tolist() == np.where(ended, -1, expected).tolist()
    assert len({str(one.tolist()) for one in found}) > 1  # the shifts do something


SHORT_MEMORY = np.array([[[3, 9, END, -1], [8, 0, 2, END]]])


@pytest.mark.parametrize(
    "candidates, answer, kind",
    [
        (TAGGED, [50, 8, 5, 5], 2),  # the other answer's first token, one place later
        (MATCHED, [3, 5, 2], 2),  # its last token
        (MATCHED, [3, 5, 5, 5], 1),  # the end mark, one place too late, is no token of it
        (MATCHED, [3, 5, 5, 2], 1),  # a token after its end
        (np.array([[[3, 7, 1, END], [8, 7, 2, END]]]), [3, 7, 5], 1),  # a token of both answers
        (SHORT_MEMORY, [3, 0, 5], 1),  # counted from the end, 0 stands at the first place
        (SHORT_MEMORY, [3, 2, 5], 2),
    ],
)
def test_only_a_token_of_the_other_answer_alone_makes_a_mixture(candidates, answer, kind):
    tokens = np.full((1, 5), -1)
    tokens[0, : len(answer) + 1] = [*answer, END]
    assert beginnings(tokens, candidates).tolist() == [kind]


def test_every_prompt_under_every_shift_is_read_by_itself():
    candidates = np.concatenate([MATCHED, SHORT_MEMORY, MATCHED])
    tokens = np.array(
        [
            [[3, 0, 1, END, -1], [3, 9, END, -1, -1], [5, 0, 2, END, -1]],
            [[3, 9, 1, END, -1], [3, 2, END, -1, -1], [8, 5, 5, END, -1]],
        ]
    )
    found = beginnings(tokens, candidates)
    assert found.tolist() == [[2, 1, 0], [1, 2, 1]] and found.dtype.kind == "i"
    assert behaviors_of(tokens, candidates).tolist() == [[2, 0, 2], [0, 2, 2]]
