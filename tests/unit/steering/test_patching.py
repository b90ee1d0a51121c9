"""Patching against plain hooks on tiny random models, and on a model where one head decides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from memgen.models.components import component_modules, edited, head_width, read, unit_maps
from memgen.models.generate import decode
from memgen.models.hooks import shift
from memgen.steering.cells import random_shift
from memgen.steering.editing import Reach, Writer
from memgen.steering.necessity import ablating, mean_states
from memgen.steering.passes import GONE
from memgen.steering.patching import (
    Interchange,
    Part,
    margin_change,
    parts_of,
    recovered,
)
from memgen.steering.prompts import Prompts
from memgen.steering.units import adding, random_units, written_by

LAYERS, WIDTH, HEADS, VOCABULARY, END, NEW = 2, 16, 4, 12, 1, 3
P, T = 6, 5
SIZES = {"vocab_size": VOCABULARY, "initializer_range": 0.4, "bos_token_id": END}
SIZES |= {"eos_token_id": END, "pad_token_id": 0}


def gpt2():
    torch.manual_seed(0)
    shape = {"n_positions": 16, "n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS}
    return GPT2LMHeadModel(GPT2Config(**shape, **SIZES)).eval()


def llama():
    torch.manual_seed(1)
    shape = {"hidden_size": WIDTH, "intermediate_size": 24, "num_hidden_layers": LAYERS}
    shape |= {"num_attention_heads": HEADS, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(**shape, **SIZES)).eval()


both = pytest.mark.parametrize("build", [gpt2, llama])


def some_prompts(seed: int, short: int = 1) -> Prompts:
    """Random prompts; the first `short` of them begin with padding."""
    rng = torch.Generator().manual_seed(seed)
    ids = torch.randint(2, VOCABULARY, (P, T), generator=rng)
    mask = torch.ones_like(ids)
    mask[:short, 0] = 0
    candidates = torch.randint(2, VOCABULARY, (P, 2, NEW), generator=rng)
    return Prompts(ids, mask, candidates)


def exchange(model) -> Interchange:
    return Interchange(Writer(model, NEW, END), some_prompts(0), some_prompts(1))


# -- the reference: one row at a time, hooks by hand, the whole text read again for every token -----
MODULES = {
    GPT2LMHeadModel: {
        "resid_post": "transformer.h.{}",
        "attn_out": "transformer.h.{}.attn.c_proj",
        "mlp_out": "transformer.h.{}.mlp.c_proj",
        "heads": "transformer.h.{}.attn.c_proj",
    },
    LlamaForCausalLM: {
        "resid_post": "model.layers.{}",
        "attn_out": "model.layers.{}.self_attn.o_proj",
        "mlp_out": "model.layers.{}.mlp.down_proj",
        "heads": "model.layers.{}.self_attn.o_proj",
    },
}


def bare_tensor(output):
    return output[0] if isinstance(output, tuple) else output


def reference(model, target: list[int], source: list[int], part: Part) -> tuple[list[int], float]:
    """Answer and rule-minus-memory logits by a run that is patched at the prompt's positions."""
    component, layer = part.place
    module = model.get_submodule(MODULES[type(model)][component].format(layer))
    n, kept = len(source), {}

    def keep_input(module, args):
        kept["source"] = args[0].clone()

    def keep_output(module, args, output):
        kept["source"] = bare_tensor(output).clone()

    def patch(vector):
        vector = vector.clone()
        places = range(n) if part.position is None else [n + part.position]
        width = WIDTH // HEADS
        what = slice(part.head * width, (part.head + 1) * width) if part.head >= 0 else slice(None)
        for place in places:  # the prompt's positions, also when the answer's tokens follow
            vector[:, place, what] = kept["source"][:, place, what]
        return vector

    def patch_input(module, args):
        return (patch(args[0]),)

    def patch_output(module, args, output):
        vector = patch(bare_tensor(output))
        return (vector, *output[1:]) if isinstance(output, tuple) else vector

    inside = component == "heads"
    register = module.register_forward_pre_hook if inside else module.register_forward_hook
    handle = register(keep_input if inside else keep_output)
    model(torch.tensor([source]))
    handle.remove()
    handle = register(patch_input if inside else patch_output)
    ids, answer, logits = list(target), [], []
    for _ in range(NEW):
        with torch.no_grad():
            logits.append(model(torch.tensor([ids])).logits[0, -1])
        answer.append(int(logits[-1].argmax()))
        ids.append(answer[-1])
        if answer[-1] == END:
            break
    handle.remove()
    return answer + [-1] * (NEW - len(answer)), logits[0]


@both
def test_patching_is_that_of_plain_hooks(build):
    """A patched prompt position stays patched while the answer is written, as its cache does."""
    model = build()
    swap = exchange(model)
    parts = [part for part in parts_of(LAYERS, HEADS, T - 1) if part.head in (-1, 2)]
    assert {part.kind for part in parts} == {
        "residual", "residual_all", "attention", "mlp", "head", "position",
    }  # fmt: skip
    changed = 0
    every = swap.each([[part] for part in parts])
    for part, found in zip(parts, every, strict=True):
        changed += (found.tokens != swap.clean.tokens).any(1).sum()
        also = torch.full((P, NEW), -1)
        for row in (0, 3):
            real = swap.target.attention_mask[row].bool()
            target, source = (x.input_ids[row][real].tolist() for x in (swap.target, swap.source))
            answer, logits = reference(model, target, source, part)
            also[row] = torch.tensor(answer)
            begun = found.tokens[row][
                found.tokens[row] != GONE
            ]  # it fits neither candidate and leaves
            assert begun.tolist() == answer[: len(begun)] and len(begun), part
            memory, rule = swap.target.candidates[row, :, 0]
            expected = float(logits[rule] - logits[memory])
            assert found.margin[row] == pytest.approx(expected, abs=1e-4), part
        alone = replace(swap, also=also).patched([part])  # the answer is looked for, and followed
        assert torch.equal(torch.from_numpy(alone.tokens[[0, 3]]), also[[0, 3]]), part
        np.testing.assert_allclose(alone.margin, found.margin, atol=1e-4)
    assert changed > len(parts)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@both
def test_a_prompt_patched_with_itself_stays_as_it_is(build):
    swap = exchange(build())
    itself = Interchange(swap.writer, swap.target, swap.target)
    parts = parts_of(LAYERS, HEADS, T)
    for some in ([part] for part in parts):
        found = itself.patched(some)
        assert (found.tokens == swap.clean.tokens).all()
        np.testing.assert_allclose(found.margin, swap.clean.margin, atol=1e-4)


def test_the_last_residual_stream_brings_the_margin_along():
    """What is written first follows from it; `recovered` is the whole way, in either direction."""
    swap = exchange(gpt2())
    theirs = Prompts(swap.source.input_ids, swap.source.attention_mask, swap.target.candidates)
    whole = Interchange(swap.writer, swap.target, theirs)
    last = whole.patched([Part("residual", LAYERS - 1)])
    assert (last.tokens[:, 0] == whole.of_source.tokens[:, 0]).all()
    change = margin_change(whole, last, 1.0)
    assert recovered(whole, change, 1.0) == pytest.approx(1, abs=1e-4)
    assert (change == -margin_change(whole, last, -1.0)).all()
    assert recovered(whole, 0 * change, 1.0) == 0


@both
def test_batches_do_not_matter(build):
    """Rows alone, with others, and heads one by one or all together."""
    swap = exchange(build())
    part = Part("head", 1, 2)
    whole = swap.patched([part])
    for row in range(P):
        some = torch.tensor([row])
        alone = Interchange(swap.writer, swap.target[some], swap.source[some]).patched([part])
        assert (alone.tokens[0] == whole.tokens[row]).all()
        assert alone.margin[0] == pytest.approx(whole.margin[row], abs=1e-4)
    heads = swap.patched([Part("head", 0, head) for head in range(HEADS)])
    attention = swap.patched([Part("attention", 0)])  # one linear map of all heads
    np.testing.assert_allclose(heads.margin, attention.margin, atol=1e-4)
    assert (heads.tokens == attention.tokens).all()


def test_every_part_of_the_map_is_there_once():
    """Two layers, two heads, prompts of three tokens: the last layer has no other positions."""
    assert parts_of(2, 2, 3) == [
        Part("residual", 0, -1, -1),
        Part("residual_all", 0, -1, None),
        Part("attention", 0, -1, -1),
        Part("mlp", 0, -1, -1),
        Part("head", 0, 0, -1),
        Part("head", 0, 1, -1),
        Part("position", 0, -1, -2),
        Part("position", 0, -1, -3),
        Part("residual", 1, -1, -1),
        Part("residual_all", 1, -1, None),
        Part("attention", 1, -1, -1),
        Part("mlp", 1, -1, -1),
        Part("head", 1, 0, -1),
        Part("head", 1, 1, -1),
    ]


def test_all_positions_are_patched_also_where_they_outnumber_the_neurons():
    torch.manual_seed(0)
    shape = {"n_positions": 16, "n_embd": 4, "n_layer": 2, "n_head": 2}
    model = GPT2LMHeadModel(GPT2Config(**shape, **SIZES)).eval()
    target, source = some_prompts(0, short=0), some_prompts(1, short=0)
    swap = Interchange(
        Writer(model, NEW, END), target, replace(source, candidates=target.candidates)
    )
    for layer in range(2):
        found = swap.patched([Part("residual_all", layer, position=None)])
        np.testing.assert_allclose(found.margin, swap.of_source.margin, atol=1e-5)
    assert np.abs(swap.clean.margin - swap.of_source.margin).max() > 0.01


def test_without_margins_or_distance_nothing_can_be_recovered():
    swap = exchange(gpt2())
    change = np.ones(P)
    assert recovered(swap, change, 1.0) is not None
    assert recovered(swap, np.full(P, np.nan), 1.0) is None
    itself = Interchange(swap.writer, swap.target, swap.target)
    assert recovered(itself, change, 1.0) is None


def test_prompts_of_different_lengths_are_refused():
    model = gpt2()
    with pytest.raises(ValueError, match="^a source and its target must have as many tokens$"):
        Interchange(Writer(model, NEW, END), some_prompts(0, short=1), some_prompts(1, short=2))
    with pytest.raises(ValueError, match="component 'nose' is unknown"):
        component_modules(model, "nose")


def test_pairs_whose_answers_begin_alike_have_no_margin():
    swap = exchange(gpt2())
    swap.target.candidates[2, 1, 0] = swap.target.candidates[2, 0, 0]
    found = margin_change(swap, swap.patched([Part("mlp", 0)]), 1.0)
    assert np.isnan(found[2]) and np.isfinite(np.delete(found, 2)).all()


# -- a model in which one head decides -------------------------------------------------------------
def one_head_decides(layer: int, head: int):
    """GPT-2 whose only part that does anything is one head: it copies the mean of its values.

    Tokens 2 and 3 have the value -1 and +1, all others none; the head writes the mean to coordinate
    0, and the logits of tokens 4 (memory) and 5 (rule) are less and plus that.
    """
    model = gpt2()
    width = WIDTH // HEADS
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.lm_head.weight = torch.nn.Parameter(torch.zeros(VOCABULARY, WIDTH))
        for block in model.transformer.h:
            block.ln_1.weight.fill_(1.0)
        model.transformer.ln_f.weight.fill_(1.0)
        embedding = model.transformer.wte.weight
        embedding[:, 2] = 1.0  # so that a norm has something to divide by
        embedding[2, 1], embedding[3, 1] = -1.0, 1.0
        block = model.transformer.h[layer]
        block.attn.c_attn.weight[1, 2 * WIDTH + head * width] = 1.0
        block.attn.c_proj.weight[head * width, 0] = 1.0
        model.lm_head.weight[4, 0], model.lm_head.weight[5, 0] = -1.0, 1.0
    return model


@pytest.mark.parametrize(("layer", "head"), [(0, 1), (1, 3)])
def test_the_head_that_decides_is_found(layer, head):
    model = one_head_decides(layer, head)
    candidates = torch.tensor([[[4], [5]]] * 2)
    ones = torch.ones(2, 4, dtype=torch.long)
    memory = Prompts(torch.tensor([[2, 6, 7, 8], [9, 2, 7, 8]]), ones, candidates)
    rule = Prompts(torch.tensor([[3, 6, 7, 8], [9, 3, 7, 8]]), ones, candidates)
    swap = Interchange(Writer(model, 1, END), memory, rule)
    assert swap.clean.codes(memory).tolist() == [0, 0]
    turned = {
        part: (swap.patched([part]).codes(memory) == 1).all()
        for part in parts_of(LAYERS, HEADS, 4)
        if part.kind in ("head", "attention", "mlp", "residual")
    }
    expected = {Part("head", layer, head), Part("attention", layer)}
    expected |= {Part("residual", late) for late in range(layer, LAYERS)}
    assert {part for part, all_turn in turned.items() if all_turn} == expected
    where = swap.patched([Part("position", 0, position=-4)]).codes(memory)
    assert where.tolist() == ([1, 0] if layer == 1 else [0, 0])  # read before the head, or not


# -- necessity -------------------------------------------------------------------------------------
@both
def test_means_are_of_real_tokens_and_count_from_the_end(build):
    model, prompts = build(), some_prompts(2, short=2)
    found = mean_states(model, prompts, "mlp_out")
    for position, rows in ((0, range(2, P)), (T - 1, range(P))):
        states = []
        for row in rows:
            real = prompts.attention_mask[row].bool()
            ids = prompts.input_ids[row][real][None]
            alone = read(model, ids, torch.ones_like(ids), "mlp_out")
            states.append(alone[0, :, position - T])
        expected = torch.stack(states).mean(0).numpy()
        np.testing.assert_allclose(found[:, position], expected, atol=1e-5)


@pytest.mark.parametrize("positions", ["decision", "all"])
def test_ablated_neurons_have_their_mean_and_others_are_left_alone(positions):
    model, prompts = gpt2(), some_prompts(3, short=0)
    ids, mask = prompts.input_ids, prompts.attention_mask
    mean = np.arange(LAYERS * (T - 1) * WIDTH, dtype=float).reshape(LAYERS, T - 1, WIDTH)
    masks = np.zeros((P, LAYERS, WIDTH), dtype=bool)
    masks[:, 1, 3] = True
    masks[0, 1, 3] = False  # a row of its own
    with edited(model, ablating(model, "resid_post", mean, masks, positions)):
        found = read(model, ids, mask, "resid_post").numpy()
    plain = read(model, ids, mask, "resid_post").numpy()
    expected = plain.copy()
    back = mean[1, [0, *range(T - 1)], 3]  # a longer prompt: the earliest mean again
    where = slice(T - 1, T) if positions == "decision" else slice(None)
    expected[1:, 1, where, 3] = back[where]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_random_neurons_keep_layers_and_what_layers_share():
    mask = np.zeros((3, 40), dtype=bool)
    mask[1, :6], mask[2, 3:12] = True, True
    drawn = random_shift(mask, np.random.default_rng(0))
    assert drawn.sum(1).tolist() == [0, 6, 9] and (drawn[1] & drawn[2]).sum() == 3
    assert (drawn != mask).any()


# -- MLP units -------------------------------------------------------------------------------------
@both
def test_units_write_along_the_last_map(build):
    """One unit raised by one adds its row of the map to what the feed-forward part writes."""
    model, prompts = build(), some_prompts(4)
    ids, mask = prompts.input_ids, prompts.attention_mask
    maps = unit_maps(model).numpy()
    deltas = np.zeros((P, LAYERS, maps.shape[1]), dtype=np.float32)
    deltas[:, 1, 7] = 2.0
    with edited(model, adding(model, deltas)):
        found = read(model, ids, mask, "mlp_out").numpy()
    plain = read(model, ids, mask, "mlp_out").numpy()
    np.testing.assert_allclose(found[:, 0], plain[:, 0], atol=1e-6)
    np.testing.assert_allclose(
        found[:, 1, -1] - plain[:, 1, -1], np.tile(2 * maps[1, 7], (P, 1)), atol=1e-4
    )
    np.testing.assert_allclose(written_by(deltas[0], maps)[1], 2 * maps[1, 7], rtol=1e-6)
    assert head_width(model) == WIDTH // HEADS


@pytest.mark.parametrize("cumulative", [False, True])
def test_random_units_write_as_much_in_the_same_layers(cumulative):
    rng = np.random.default_rng(5)
    maps = rng.normal(size=(3, 30, 8))
    delta = np.zeros((3, 30))
    delta[0, :4], delta[2, 5:9] = rng.normal(size=4), rng.normal(size=4)
    drawn = random_units(delta, maps, rng, cumulative)
    assert np.count_nonzero(drawn, axis=1).tolist() == [4, 0, 4]
    assert not ((drawn != 0) & (delta != 0)).any()
    ours, theirs = written_by(delta, maps), written_by(drawn, maps)
    if cumulative:
        ours, theirs = ours.sum(0), theirs.sum(0)
    np.testing.assert_allclose(np.linalg.norm(theirs, axis=-1), np.linalg.norm(ours, axis=-1))


def test_writing_with_edits_is_generate():
    """Without edits, and with a shift at every position of every pass."""

    class Tokenizer:
        pad_token_id, eos_token_id = 0, END

    model, prompts = gpt2(), some_prompts(6)
    writer = Writer(model, NEW, END)
    given = prompts.input_ids, prompts.attention_mask, NEW
    assert (writer.write(prompts).tokens == decode(model, Tokenizer, *given).numpy()).all()
    delta = torch.zeros(LAYERS, WIDTH)
    delta[0, 2] = 3.0
    with shift(model, "mlp_out", delta):
        expected = decode(model, Tokenizer, *given).numpy()
    found = writer.write(
        prompts, lambda rows: {("mlp_out", 0): lambda v: v + delta[0]}, Reach(generated=True)
    )
    assert (found.tokens == expected).all()
    assert (found.tokens != writer.write(prompts).tokens).any()
