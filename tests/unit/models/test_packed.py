"""Logits at chosen positions: those of transformers' own forward pass, and its gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from hub import DECODERS, decoder
from memgen.models import packed
from memgen.models.adapters import attach
from memgen.models.hooks import record
from memgen.models.packed import MOST_GROUPS, Seen, logits_at
from memgen.models.sites import bare

N_TOKENS, LONGEST = 23, 14
#: those that share LLaMA's blocks; where some have a window, no row here is longer
ALIKE = ["mistral", "qwen2", "qwen3", "gemma", "gemma3"]
WINDOW = {"sliding_window": LONGEST + 1}
THREE = {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
OWN = {"mistral": WINDOW, "qwen2": WINDOW, "gemma3": WINDOW | THREE}


def model_of(kind: str, attention: str = "eager", **changes):
    """A tiny random model; `gqa`: LLaMA with two heads to one of keys and values; `lora`: adapters."""
    if kind in ALIKE:
        given = {"num_hidden_layers": 3, "initializer_range": 0.2} | OWN.get(kind, {}) | changes
        marks = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
        model = decoder(kind, attention, vocab_size=N_TOKENS, **marks, **given)
        for name, weight in model.named_parameters():
            if "norm" in name and kind.startswith("gemma"):  # a gain is one more than its weight
                weight.data -= 0.7  # so that what rounding does does not grow from block to block
        return model.train()
    torch.manual_seed(0)
    if kind == "gpt2":
        given = {"n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 16}
        given |= dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0) | changes
        config, cls = (
            GPT2Config(vocab_size=N_TOKENS, initializer_range=0.3, **given),
            GPT2LMHeadModel,
        )
    else:
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2 if kind == "gqa" else 4}
        given = (
            {"hidden_size": 16, "intermediate_size": 40, "num_hidden_layers": 3} | heads | changes
        )
        config = LlamaConfig(
            vocab_size=N_TOKENS, initializer_range=0.3, max_position_embeddings=16, **given
        )
        cls = LlamaForCausalLM
    config.bos_token_id = config.eos_token_id = 1
    config._attn_implementation = attention
    model = cls(config)
    if kind == "lora":
        model = attach(model, rank=2, alpha=4.0, dropout=0.0, targets=[], seed=1)
        for name, value in model.named_parameters():
            if "lora_B" in name:  # zero at first, so that its gradient alone would be seen
                torch.nn.init.normal_(value, std=0.1)
    return model.train()


def batch_of(lengths: list[int], n_answer: int = 3):
    """Ids padded on the right with 0, and the last `n_answer` positions of each row as wanted ones."""
    ids = torch.zeros(len(lengths), max(lengths) + 1, dtype=torch.long)
    wanted = torch.zeros(ids.shape, dtype=torch.bool)
    draw = torch.Generator().manual_seed(2)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(1, N_TOKENS, (length,), generator=draw)
        wanted[row, max(0, length - n_answer) : length] = True
    return ids, wanted


def by_transformers(model, ids, wanted):
    return bare(model)(input_ids=ids, use_cache=False).logits[wanted]


def gradients(model, logits, targets):
    model.zero_grad()
    loss = F.cross_entropy(logits, targets)
    loss.backward()
    return loss.item(), {n: p.grad for n, p in model.named_parameters() if p.requires_grad}


RAGGED = [9, 4, 9, 14, 1, 6, 9, 4]
#: what a pass may have beside what is written out, by kind
WITH_MORE = {
    "mistral": [{"sliding_window": LONGEST}],
    "qwen2": [{"sliding_window": 3}],
    "gemma3": [{"sliding_window": 3}, {"use_bidirectional_attention": True}],
}
MODELS = {kind: DECODERS[kind][0].__name__ for kind in ALIKE}


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", ["gpt2", "llama", "gqa", "lora", *ALIKE])
@pytest.mark.parametrize("lengths", [RAGGED, list(range(1, 15)), [7, 7, 7]])
def test_loss_and_gradients_are_those_of_transformers(kind, attention, lengths):
    model = model_of(kind, attention)
    ids, wanted = batch_of(lengths)
    targets = torch.randint(
        N_TOKENS, (int(wanted.sum()),), generator=torch.Generator().manual_seed(3)
    )
    plain, ours = by_transformers(model, ids, wanted), logits_at(model, ids, wanted)
    assert ours.shape == plain.shape and torch.allclose(ours, plain, atol=1e-5)
    (loss, own), (other_loss, other) = (gradients(model, x, targets) for x in (ours, plain))
    assert loss == pytest.approx(other_loss, abs=1e-6)
    assert own.keys() == other.keys() and any(value.abs().max() > 1e-3 for value in other.values())
    for name, value in other.items():
        assert torch.allclose(own[name], value, atol=1e-5), name


def test_positions_in_the_middle_and_rows_without_any_are_allowed():
    model = model_of("gpt2")
    ids, wanted = batch_of(RAGGED)
    wanted[:] = False
    wanted[1, 2] = wanted[3, 0] = wanted[3, 9] = wanted[0, 5] = True
    assert torch.allclose(
        logits_at(model, ids, wanted), by_transformers(model, ids, wanted), atol=1e-5
    )
    wanted[:] = False
    assert logits_at(model, ids, wanted).shape == (0, N_TOKENS)


def test_what_no_label_depends_on_is_not_computed():
    """Tokens that go into the feed-forward part of each block, by a hook."""
    model, seen = model_of("gpt2"), []
    for block in model.transformer.h:
        block.ln_1.register_forward_hook(lambda module, given, out: seen.append(len(out)))
        block.ln_2.register_forward_hook(lambda module, given, out: seen.append(len(out)))
    ids, wanted = batch_of([5, 7, 7], n_answer=2)
    ids[2, :3] = ids[1, :3]  # two rows begin alike, and
    ids[2, 3] = ids[1, 3] % (N_TOKENS - 1) + 1  # part
    points = {
        (column, int(ids[row, column]))
        for row, n in ((0, 5), (1, 7), (2, 7))
        for column in range(n)
    }
    ours = logits_at(model, ids, wanted)
    nodes = 5 + 7 + 4 - (int(ids[0, 0]) == int(ids[1, 0]))
    assert seen == [len(points), nodes, nodes, nodes, nodes, 6]
    assert torch.allclose(ours, by_transformers(model, ids, wanted), atol=1e-5)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_in_bfloat16_nothing_is_shared_and_rounding_alone_differs(kind, monkeypatch):
    model, (ids, wanted) = model_of(kind), batch_of(RAGGED)
    targets = torch.randint(N_TOKENS, (int(wanted.sum()),))
    exact = gradients(model, by_transformers(model, ids, wanted), targets)[1]

    def never(*_):
        raise AssertionError("a sum in bfloat16")

    monkeypatch.setattr(packed, "_beginnings", never)
    off = []
    for of in (logits_at, by_transformers):
        with torch.autocast("cpu", torch.bfloat16):
            logits = of(model, ids, wanted)
        found = gradients(model, logits.float(), targets)[1]
        off.append(sum(float((found[name] - exact[name]).norm()) for name in exact))
    assert off[0] < 1.5 * off[1] and off[1] > 0
    with pytest.raises(AssertionError):
        logits_at(model, ids, wanted)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "lora"])
@pytest.mark.parametrize("n_layer", [1, 2])
def test_gradients_of_shared_beginnings_are_summed(kind, n_layer):
    """Rows of few different tokens: most begin like another one, some are the same throughout."""
    named = "n_layer" if kind == "gpt2" else "num_hidden_layers"
    model, (ids, wanted) = model_of(kind, **{named: n_layer}), batch_of([6] * 40, n_answer=2)
    ids = ids.clamp(max=2)
    ids[1] = ids[0]
    targets = torch.randint(N_TOKENS, (80,), generator=torch.Generator().manual_seed(4))
    (loss, own), (other_loss, other) = (
        gradients(model, of(model, ids, wanted), targets) for of in (logits_at, by_transformers)
    )
    assert loss == pytest.approx(other_loss, abs=1e-6)
    for name, value in other.items():
        assert torch.allclose(own[name], value, atol=1e-5), name


def test_few_lengths_are_kept_apart():
    ids, wanted = batch_of(list(range(1, 40)))
    layout = packed._Layout.of(ids, wanted, share=True)
    assert len(layout.groups) <= MOST_GROUPS
    assert sum(rows for rows, _ in layout.groups) == 39
    assert max(length for _, length in layout.groups) == 39
    assert (layout.ids[layout.point[layout.chosen]] == ids[wanted]).all()
    assert (layout.node[layout.first] == torch.arange(len(layout.first))).all()


@pytest.mark.parametrize(
    "changes", [{"resid_pdrop": 0.5}, {"attn_pdrop": 0.5}, {"reorder_and_upcast_attn": True}]
)
def test_a_model_with_more_in_it_goes_through_transformers(changes, monkeypatch):
    def refuse(*_):
        raise AssertionError("written out here, it would leave something away")

    monkeypatch.setitem(packed._TRUNKS, "GPT2LMHeadModel", refuse)
    model, (ids, wanted) = model_of("gpt2", **changes), batch_of(RAGGED)
    torch.manual_seed(5)
    ours = logits_at(model, ids, wanted)
    torch.manual_seed(5)
    assert torch.equal(ours, by_transformers(model, ids, wanted))
    with pytest.raises(AssertionError):
        logits_at(model_of("gpt2"), ids, wanted)


@pytest.mark.parametrize("kind", ALIKE)
def test_blocks_like_llamas_are_written_out(kind, monkeypatch):
    """Not so where a row is longer than the window, or attention looks ahead: another pass is asked."""
    asked, own = [], packed._TRUNKS[MODELS[kind]]

    def seen(*given):
        asked.append(kind)
        return own(*given)

    monkeypatch.setitem(packed._TRUNKS, MODELS[kind], seen)
    ids, wanted = batch_of(RAGGED)
    logits_at(model_of(kind), ids, wanted)
    assert asked == [kind]
    for changes in WITH_MORE.get(kind, []):
        model = model_of(kind, **changes)
        ours = logits_at(model, ids, wanted)
        assert torch.equal(ours, by_transformers(model, ids, wanted)), changes
    assert asked == [kind]


def test_recomputed_activations_are_left_to_transformers(monkeypatch):
    model, (ids, wanted) = model_of("llama"), batch_of(RAGGED)
    expected = logits_at(model, ids, wanted)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    monkeypatch.setitem(packed._TRUNKS, "LlamaForCausalLM", None)
    assert torch.allclose(logits_at(model, ids, wanted), expected, atol=1e-5)


@pytest.mark.parametrize("how", ["shared", "apart", "transformers"])
@pytest.mark.parametrize("kind", ["gpt2", "gqa", "lora", *ALIKE])
@torch.inference_mode()
def test_states_that_are_seen_are_those_of_transformers(kind, how, monkeypatch):
    """At some of the wanted positions, row by row; the logits stay as they are to the bit."""
    if how == "transformers":
        monkeypatch.setattr(packed, "_TRUNKS", {})
    model = model_of(kind, "sdpa").eval()
    model = model.double() if how == "apart" else model  # beginnings are shared in float32 alone
    ids, wanted = batch_of([9, 5, 13, 9, 2, 7])
    ids[3] = ids[0]  # a row twice, of which one position is looked at here and another one there
    at = wanted.clone()
    at[0, 8], at[3, 6:8], at[4] = False, False, False
    seen = Seen(at)
    assert torch.equal(logits_at(model, ids, wanted, seen), logits_at(model, ids, wanted))
    with record(model, "resid_post") as blocks:
        by_transformers(model, ids, wanted)
    expected = torch.stack([block[at] for block in blocks], dim=1).float()
    assert seen.states.shape == expected.shape == (int(at.sum()), 3, 16)
    assert seen.states.dtype == torch.float32 and expected.std() > 0.1
    torch.testing.assert_close(seen.states, expected, rtol=1e-4, atol=1e-5)
