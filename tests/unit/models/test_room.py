"""Rows per pass: all of them in small models, few in large ones."""

import numpy as np
import torch

from capitals import asked_model, llama
from memgen.models import generate, room
from memgen.models.generate import (
    first_token_log_probabilities,
    next_token_scores,
    states_and_scores,
    tokenize_prompts,
)
from memgen.models.hooks import capture
from memgen.steering.prompts import Prompts
from memgen.steering.unsteered import Unsteered


def test_small_models_take_all_and_large_ones_what_fits():
    model, _ = asked_model()
    assert room.fitting(model, 32, 512) == 512
    with torch.device("meta"):
        large = llama(
            None,
            hidden_size=576,
            intermediate_size=1536,
            num_hidden_layers=30,
            num_attention_heads=9,
            num_key_value_heads=3,
            vocab_size=49152,
        )
    rows = room.fitting(large, 60, 512)
    kept = 2 * 30 * 3 * 64 * 60 * 4  # bytes of a row's keys and values
    assert 32 <= rows <= 256 and 2 * rows * kept <= room.BYTES
    assert rows * room.FEW * 49152 * 4 <= room.BYTES  # logits of both answers' tokens
    assert room.fitting_logits(large, 60, 512) * 60 * 49152 * 4 <= room.BYTES
    assert room.fitting(large, 10**6, 512) == 1


@torch.inference_mode()
def test_passes_of_few_rows_give_the_same(monkeypatch):
    """Prompts of one length go together, and what comes out is in their own order."""
    model, tokenizer = asked_model()
    prompts = [f"{'place2' * (i % 3)}The capital of place{i} is" for i in range(8)] + ["In place1"]
    ids, mask = tokenize_prompts(tokenizer, prompts)
    states, scores = capture(model, ids, mask), first_token_log_probabilities(model, ids, mask)
    own = next_token_scores(model, ids, mask)
    asked = Prompts(ids, mask, torch.ones(len(ids), 2, 1, dtype=torch.long))
    whole = Unsteered.of(model, asked, outputs=False)
    answers = generate.answer(model, tokenizer, prompts, 3)
    rows, columns = zip(*room.passes(model, mask, 512), strict=True)
    assert len(rows) == 1 and rows[0].tolist() == list(range(9)) and columns == (0,)

    for module, name in ((generate, "fitting"), (generate, "fitting_logits"), (room, "fitting")):
        monkeypatch.setattr(module, name, lambda core, tokens, most: 2)
    rows, columns = zip(*room.passes(model, mask, 512), strict=True)
    assert [len(some) for some in rows] == [2, 2, 2, 2, 1] and columns[0] > columns[-1] == 0
    np.testing.assert_allclose(capture(model, ids, mask), states, rtol=1e-3, atol=1e-3)
    found = first_token_log_probabilities(model, ids, mask)
    np.testing.assert_allclose(found, scores, rtol=1e-3, atol=1e-3)
    for name, values in next_token_scores(model, ids, mask).items():
        np.testing.assert_allclose(values, own[name], rtol=1e-3, atol=1e-3)
    assert generate.answer(model, tokenizer, prompts, 3) == answers
    parts, seen = Unsteered.of(model, asked, outputs=False), mask[:, None, :, None]
    for one, other in zip([*parts.keys, *parts.values], [*whole.keys, *whole.values], strict=True):
        np.testing.assert_allclose(one * seen, other * seen, rtol=1e-3, atol=1e-3)


@torch.inference_mode()
def test_states_and_scores_are_those_of_two_passes_to_the_bit(monkeypatch):
    """Where prompts take several passes, one of them reads and scores; else two do."""
    model, tokenizer = asked_model()
    ids, mask = tokenize_prompts(tokenizer, [f"{'place2' * (i % 3)}place{i} is" for i in range(9)])
    passed: list[int] = []
    model.model.register_forward_pre_hook(lambda module, args: passed.append(1))

    def beside(passes: int) -> None:
        states, scores = capture(model, ids, mask), next_token_scores(model, ids, mask)
        passed.clear()
        found = states_and_scores(model, ids, mask, "resid_post")
        assert torch.equal(found[0], states) and len(passed) == passes
        assert list(found[1]) == list(scores)
        for name, values in scores.items():
            np.testing.assert_array_equal(found[1][name], values)

    beside(2)
    for module, name in ((generate, "fitting_logits"), (room, "fitting")):
        monkeypatch.setattr(module, name, lambda core, tokens, most: 2)
    beside(5)


def test_rows_of_about_one_length_share_a_pass():
    def cost(parts, tokens) -> int:
        return sum(room.A_PASS + len(part) * int(tokens[part].max()) for part in parts)

    rng = np.random.default_rng(0)
    for n in (1, 5, 40, 300):  # the last of them long enough that one pass is not the cheapest
        tokens = torch.tensor(rng.choice([0, 1, 2, 3, 7], n, p=[0.1, 0.5, 0.2, 0.1, 0.1]))
        parts = room.dealt(tokens)
        asked = torch.cat([*parts, torch.zeros(0, dtype=torch.long)]).sort().values
        assert all((part.diff() > 0)[tokens[part].diff() == 0].all() for part in parts)
        assert asked.tolist() == (tokens > 0).nonzero()[:, 0].tolist()  # each once
        if len(asked):
            each = [(tokens == size).nonzero()[:, 0] for size in tokens[asked].unique()]
            assert cost(parts, tokens) <= min(cost([asked], tokens), cost(each, tokens))
    assert len(parts) > 1 and room.dealt(torch.zeros(3, dtype=torch.long)) == []
