"""The sweep gives the answers of plain hooks + `generate`, and the race the winner of the full
grid.
"""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from memgen.models.hooks import hooked, record, shift, vector_of, with_vector
from memgen.models.sites import site_modules
from memgen.steering.engine import Decoding, run_cells
from memgen.steering.passes import Batch
from memgen.steering.prompts import Prompts, make_prompts
from memgen.steering.race import Rules, contest, race
from memgen.steering.unsteered import Unsteered
from memgen.terms import SITES

LAYERS, WIDTH, VOCABULARY, PAD, END, NEW = 2, 32, 12, 0, 1, 4
P, T = 12, 6


def build(seed: int = 0, attention: str = "sdpa") -> GPT2LMHeadModel:
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=32,
        n_embd=WIDTH,
        n_layer=LAYERS,
        n_head=4,
        bos_token_id=END,
        eos_token_id=END,
        pad_token_id=PAD,
        initializer_range=0.3,
        attn_implementation=attention,
    )
    return GPT2LMHeadModel(config).eval()


def build_llama(seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=LAYERS,
        initializer_range=0.3,
        num_attention_heads=4,
        num_key_value_heads=2,
        bos_token_id=END,
        eos_token_id=END,
        pad_token_id=PAD,
    )
    return LlamaForCausalLM(config).eval()


def plain_answers(
    model, prompts: Prompts, delta, site, positions, max_new_tokens=NEW
) -> list[list[int]]:
    """Hooks + `generate`, one cell at a time: the reference."""
    with shift(model, site, delta, positions):
        out = model.generate(
            prompts.input_ids,
            attention_mask=prompts.attention_mask,
            do_sample=False,
            max_new_tokens=max_new_tokens,
            pad_token_id=PAD,
            eos_token_id=END,
        )
    answers = out[:, prompts.input_ids.shape[1] :].tolist()
    return [answer[: answer.index(END) + 1] if END in answer else answer for answer in answers]


def plain_codes(
    model, prompts: Prompts, deltas, site, positions, max_new_tokens=NEW
) -> torch.Tensor:
    candidates = [[[t for t in c if t != -1] for c in pair] for pair in prompts.candidates.tolist()]
    return torch.tensor(
        [
            [
                pair.index(answer) if answer in pair else 2
                for answer, pair in zip(
                    plain_answers(model, prompts, delta, site, positions, max_new_tokens),
                    candidates,
                )
            ]
            for delta in deltas
        ],
        dtype=torch.int8,
    )


def scenario(model, site, positions, seed=3) -> tuple[Prompts, torch.Tensor]:
    """Ragged prompts, and cells of several strengths that begin at different layers.

    The candidates are the unsteered answer and that of one cell, so every code is met.
    """
    g = torch.Generator().manual_seed(seed)
    ids = torch.randint(2, VOCABULARY, (P, T), generator=g)
    mask = (torch.arange(T) >= torch.randint(0, 4, (P, 1), generator=g)).long()
    deltas = torch.randn(6, LAYERS, WIDTH, generator=g) * torch.tensor(
        [0, 0.3, 0.6, 0.6, 1, 3]
    ).view(-1, 1, 1)
    deltas[3, 0] = 0
    prompts = Prompts(ids * mask, mask, torch.full((P, 2, NEW), -1))
    for i, delta in enumerate((torch.zeros(LAYERS, WIDTH), deltas[4])):
        for row, answer in enumerate(plain_answers(model, prompts, delta, site, positions)):
            prompts.candidates[row, i, : len(answer)] = torch.tensor(answer)
    return prompts, deltas


@pytest.mark.parametrize("positions", ["all", "decision"])
@pytest.mark.parametrize("site", SITES)
def test_run_cells_equals_plain_hooks_and_generate(site, positions):
    met = set()
    for model in (build(0), build(1, "eager"), build_llama()):
        prompts, deltas = scenario(model, site, positions)
        expected = plain_codes(model, prompts, deltas, site, positions)
        met |= set(expected.flatten().tolist())
        for early_end in (True, False):
            for rows in (5, 512):
                decoding = Decoding(site, positions, early_end=early_end, rows_per_batch=rows)
                codes = run_cells(model, prompts, deltas, decoding)
                assert codes.dtype == torch.int8 and torch.equal(codes, expected)
        assert not any(
            "forward" in vars(module) or module._forward_hooks for module in model.modules()
        )
    assert met == {0, 1, 2}


@pytest.mark.parametrize("site", SITES)
def test_blocks_are_skipped_below_the_lowest_layer_that_is_touched(site):
    """A cell moves one coordinate of one layer: which coordinate says nothing of which layer."""
    model = build(0)
    prompts, deltas = scenario(model, site, "all")
    width = deltas.shape[-1]
    single = torch.zeros(2 * deltas.shape[1], *deltas.shape[1:])
    for cell in range(len(single)):
        single[cell, cell // 2, (width - 1, 1)[cell % 2]] = 6.0
    expected = plain_codes(model, prompts, single, site, "all")
    assert torch.equal(run_cells(model, prompts, single, Decoding(site, "all")), expected)


def test_a_model_in_bfloat16_takes_cells_of_float32():
    model = build(0).to(torch.bfloat16)
    prompts, deltas = scenario(build(0), "resid_post", "all")
    codes = run_cells(model, prompts, deltas.float(), Decoding("resid_post", "all"))
    assert codes.shape == (len(deltas), len(prompts))


def test_a_list_of_end_marks_is_refused_by_name():
    model = build(0)
    prompts, deltas = scenario(model, "resid_post", "all")
    model.config.eos_token_id = [1, 2]
    with pytest.raises(ValueError, match=r"eos_token_id: .*\[1, 2\].*give the tokenizer's"):
        run_cells(model, prompts, deltas, Decoding("resid_post", "all"))


@pytest.mark.parametrize("max_new_tokens", [1, NEW - 1, NEW + 3])
def test_the_length_limit_is_that_of_generate(max_new_tokens):
    model = build()
    prompts, deltas = scenario(model, "resid_post", "all")
    expected = plain_codes(model, prompts, deltas, "resid_post", "all", max_new_tokens)
    for early_end in (True, False):
        decoding = Decoding(max_new_tokens=max_new_tokens, early_end=early_end)
        codes = run_cells(model, prompts, deltas, decoding)
        assert torch.equal(codes, expected)


def test_a_cell_that_touches_nothing_is_the_unsteered_model():
    model = build()
    prompts, _ = scenario(model, "resid_post", "all")
    assert (
        run_cells(model, prompts, torch.zeros(1, LAYERS, WIDTH)) == 0
    ).all()  # candidate 0 is its own answer


def test_early_ends_shared_blocks_and_tokens_that_nobody_reads_do_less_work():
    """Count the positions that the first and the last feed-forward part really compute."""
    model = build()
    prompts, deltas = scenario(model, "resid_post", "all")
    deltas = deltas[1:3]

    def passes(block: int, **settings) -> list[int]:
        seen = []
        handle = model.transformer.h[block].mlp.register_forward_hook(
            lambda module, args, output: seen.append(output.shape[0] * output.shape[1])
        )
        run_cells(model, prompts, deltas, Decoding(**settings))
        handle.remove()
        return seen

    def work(block: int, **settings) -> int:
        return sum(passes(block, **settings))

    assert work(0, max_new_tokens=1) == P * T  # once per prompt, whatever the number of cells
    assert work(1, max_new_tokens=1) == 2 * P  # the last one at the last token alone
    assert work(1, max_new_tokens=1, positions="decision") == P * T + 2 * P
    # the prompt, and then all tokens of the answer that is looked for at once, or one after the other
    assert len(passes(1, early_end=True)) == 2 < len(passes(1, early_end=False)) == NEW
    prompts.candidates[:] = torch.tensor([VOCABULARY, END, -1, -1])  # a token that is never chosen
    assert work(1, early_end=True) == 2 * P


def test_a_row_that_fits_no_candidate_leaves_the_batch_while_another_goes_on():
    model = build()
    prompts, deltas = scenario(model, "resid_post", "all")
    own = (prompts.candidates[:, 0] != -1).sum(-1)
    longest = int(own.argmax())
    prompts.candidates[torch.arange(P) != longest] = torch.tensor([VOCABULARY, END, -1, -1])
    seen = []
    handle = model.transformer.h[1].mlp.register_forward_hook(
        lambda module, args, output: seen.append(tuple(output.shape[:2]))
    )
    codes = run_cells(model, prompts, 0 * deltas[:1])
    handle.remove()
    assert codes[0].tolist() == [0 if row == longest else 2 for row in range(P)]
    # one pass over the prompts, which is all that is shared, and one over the answer that goes on
    n = int(own[longest])
    alike = int((prompts.candidates[longest, :, 0] == prompts.candidates[longest, 0, 0]).sum())
    assert n >= 2 and seen == [(P, T), (alike, n - 1)]  # a row for each answer that begins so


def test_what_skipped_blocks_give_is_of_the_kind_that_they_gave():
    """Bare states, or a tuple that begins with them, as older versions of transformers have it."""
    model = build()
    prompts, _ = scenario(model, "resid_post", "all")
    states, rows = torch.randn(P, T, WIDTH), torch.tensor([3, 0, 3])
    bare = Batch(Unsteered(model, prompts, [states], [], []), rows, skip=1).begin()[-1]
    assert torch.equal(bare, states[rows])
    kept = Batch(Unsteered(model, prompts, [(states, "rest")], [], []), rows, skip=1).begin()[-1]
    assert torch.equal(kept[0], states[rows]) and kept[1:] == ("rest",)


@pytest.mark.parametrize("kind", [build, build_llama])
def test_the_unsteered_pass_is_the_models_own_in_any_batches(kind):
    model = kind()
    prompts, _ = scenario(model, "resid_post", "all")
    ids, mask = prompts.input_ids, prompts.attention_mask
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad(), record(model, "resid_post") as states:
        plain = model(ids, attention_mask=mask, position_ids=positions, use_cache=True)
    real = mask.bool()
    for rows in (5, 512):
        with torch.no_grad():
            found = Unsteered.of(model, prompts, rows=rows)
        for layer, cache in enumerate(plain.past_key_values.layers):
            torch.testing.assert_close(found.outputs[layer][real], states[layer][real])
            for ours, theirs in ((found.keys, cache.keys), (found.values, cache.values)):
                torch.testing.assert_close(
                    ours[layer].transpose(1, 2)[real], theirs.transpose(1, 2)[real]
                )
        assert len(found.outputs) == LAYERS


def test_the_model_is_left_as_it_was_after_an_exception(monkeypatch):
    model = build().train()
    prompts, deltas = scenario(model.eval(), "resid_post", "all")
    model.train()
    monkeypatch.setattr(model.transformer.ln_f, "forward", lambda hidden: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_cells(model, prompts, deltas)
    monkeypatch.undo()
    assert model.training
    assert not any("forward" in vars(module) or module._forward_hooks for module in model.modules())


def test_make_prompts_pads_left_and_ends_answers():
    tokens = ["<pad>", "<eos>", *"0123456789+="]
    backend = Tokenizer(
        models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="<pad>")
    )
    backend.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="<eos>"
    )
    prompts = make_prompts(tokenizer, ["1+2=", "10+2="], ["7", "8"], ["3", "12"])
    assert prompts.input_ids.tolist() == [[0, 3, 12, 4, 13], [3, 2, 12, 4, 13]]
    assert prompts.attention_mask.tolist() == [[0, 1, 1, 1, 1], [1, 1, 1, 1, 1]]
    assert prompts.candidates.tolist() == [[[9, 1, -1], [5, 1, -1]], [[10, 1, -1], [3, 4, 1]]]
    assert prompts[1:].candidates.tolist() == [[[10, 1, -1], [3, 4, 1]]] and len(prompts) == 2
    with pytest.raises(ValueError, match="2 prompts, 1 memory_answers"):
        make_prompts(tokenizer, ["1", "2"], ["1"], ["1", "2"])
    with pytest.raises(ValueError, match="prompts is empty"):
        make_prompts(tokenizer, [], [], [])


def test_bad_input_is_named():
    model = build()
    prompts, deltas = scenario(model, "resid_post", "all")
    for settings, message in (
        ({"site": "x"}, "site 'x' is unknown"),
        ({"positions": "x"}, "positions 'x' is unknown"),
        ({"rows_per_batch": 0}, "rows_per_batch"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
    ):
        with pytest.raises(ValueError, match=message):
            run_cells(model, prompts, deltas, Decoding(**settings))
        with pytest.raises(ValueError, match=message):
            race(model, prompts, deltas, 1, Decoding(**settings))
    with pytest.raises(ValueError, match="delta is not finite"):
        run_cells(model, prompts, deltas / 0)
    with pytest.raises(ValueError, match=r"deltas \[2, 32\] is not \[cells"):
        run_cells(model, prompts, deltas[0])
    with pytest.raises(ValueError, match="does not end in"):
        run_cells(model, prompts, deltas[:, :1])
    with pytest.raises(ValueError, match="target_code"):
        race(model, prompts, deltas, 2)
    with pytest.raises(ValueError, match="order"):
        race(model, prompts, deltas, 1, rules=Rules(order=[0, 0, 1, 2, 3, 4]))
    with pytest.raises(ValueError, match="risk"):
        race(model, prompts, deltas, 1, rules=Rules(risk=1.0))
    with pytest.raises(ValueError, match="candidates"):
        Prompts(prompts.input_ids, prompts.attention_mask, prompts.candidates[:, :1])
    with pytest.raises(ValueError, match="attention_mask: pad on the left"):
        Prompts(prompts.input_ids, prompts.attention_mask.flip(-1), prompts.candidates)


# -- race ------------------------------------------------------------------------------------------


def planted(model, n_prompts=60, seed=5) -> tuple[Prompts, torch.Tensor]:
    """Cells that push towards token 5 with rising strength; memory answers as now, the rule answers
    5 and on.
    """
    g = torch.Generator().manual_seed(seed)
    ids = torch.randint(2, VOCABULARY, (n_prompts, T), generator=g)
    prompts = Prompts(ids, torch.ones_like(ids), torch.full((n_prompts, 2, NEW), -1))
    push = torch.zeros(LAYERS, WIDTH)
    push[-1] = model.lm_head.weight[5].detach()
    for i, delta in enumerate((0 * push, 3 * push)):
        for row, answer in enumerate(
            plain_answers(model, prompts, delta, "resid_post", "decision")
        ):
            prompts.candidates[row, i, : len(answer)] = torch.tensor(answer)
    return prompts, torch.tensor([0, 0.5, 1, 2, 3, 4, 8.0]).view(-1, 1, 1) * push


@pytest.mark.parametrize("target_code", [0, 1])
def test_the_race_on_a_planted_model_chooses_as_the_full_grid(target_code):
    model = build()
    prompts, deltas = planted(model)
    codes = run_cells(model, prompts, deltas, Decoding(positions="decision"))
    assert torch.equal(codes, plain_codes(model, prompts, deltas, "resid_post", "decision"))
    assert (codes[0] == 0).all() and (
        codes[4] == 1
    ).float().mean() > 0.5  # the plant does flip behaviour
    for order in (None, list(range(len(deltas)))[::-1]):
        decoding = Decoding(positions="decision", rows_per_batch=40)
        result = race(model, prompts, deltas, target_code, decoding, Rules(order=order))
        won = (codes == target_code).sum(1).tolist()
        cells = order or list(range(len(deltas)))
        assert result.best == max(cells, key=lambda cell: (won[cell], -cells.index(cell)))
        assert result.rows_run < codes.numel()
        assert result.successes[result.best] == (codes[result.best] == target_code).sum()


def test_an_answer_that_fits_both_counts_as_memorization_in_the_race_too():
    model = build()
    prompts, deltas = scenario(model, "resid_post", "all")
    prompts.candidates[:, 1] = prompts.candidates[:, 0]
    codes = run_cells(model, prompts, deltas)
    assert (codes[0] == 0).all() and not (codes == 1).any()
    assert max(race(model, prompts, deltas, 1).successes) == 0


@pytest.mark.parametrize("positions", ["all", "decision"])
@pytest.mark.parametrize("target_code", [0, 1])
def test_leads_are_those_of_the_candidate_read_token_by_token(target_code, positions):
    """The lowest lead over its tokens, up to the first one that the model would not write."""
    met = set()
    for model in (build(0), build_llama()):
        prompts, deltas = scenario(model, "resid_post", positions)
        leads = contest(model, prompts, deltas, target_code, Decoding(positions=positions))
        cells, at = (x.flatten() for x in np.meshgrid(range(len(deltas)), range(P), indexing="ij"))
        found = leads(cells, at).reshape(len(deltas), P)
        codes = plain_codes(model, prompts, deltas, "resid_post", positions)
        same = (prompts.candidates[:, 0] == prompts.candidates[:, 1]).all(-1)
        hits = codes == target_code
        assert ((torch.from_numpy(found) > 0) == hits).all() or same.any()
        for cell in range(1, len(deltas)):
            for row in range(P):
                real = prompts.attention_mask[row].bool()
                ids = prompts.input_ids[row][real].tolist()
                lowest = float("inf")
                answer = [t for t in prompts.candidates[row, target_code].tolist() if t != -1]
                for step, token in enumerate(answer):
                    delta = deltas[cell]
                    if positions == "decision":  # every token of the answer was the last once
                        start = len(ids) - step
                        with _shifted_from(model, delta, start - 1), torch.no_grad():
                            logits = model(torch.tensor([ids])).logits[0, -1]
                    else:
                        with shift(model, "resid_post", delta), torch.no_grad():
                            logits = model(torch.tensor([ids])).logits[0, -1]
                    others = logits.clone()
                    others[token] = -torch.inf
                    lowest = min(lowest, float(logits[token] - others.max()))
                    if lowest < 0:
                        break
                    ids.append(token)
                met.add(lowest > 0)
                if not same[row]:
                    assert found[cell, row] == pytest.approx(lowest, abs=1e-4)
    assert met == {True, False}


@contextmanager
def _shifted_from(model, delta, begin: int):
    """The shift at `begin` and at all positions behind it, in one pass over the whole text."""

    def hook(layer):
        def add(module, args, output):
            vector = vector_of(output).clone()
            vector[:, begin:] += delta[layer]
            return with_vector(output, vector)

        return add

    blocks = site_modules(model, "resid_post")
    with hooked(blocks, [hook(layer) for layer in range(len(blocks))]):
        yield
