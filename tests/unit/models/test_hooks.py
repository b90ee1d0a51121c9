"""Hidden states are read where transformers has them, and shifted only where and while they should
be.
"""

from __future__ import annotations

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
)

from memgen.models.hooks import capture, record, shift
from memgen.models.sites import site_modules
from memgen.terms import SITES

LAYERS, WIDTH, VOCABULARY, END = 2, 32, 12, 1


def build(attention: str = "sdpa", layers: int = LAYERS, **extra) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=32,
        n_embd=WIDTH,
        n_layer=layers,
        n_head=4,
        bos_token_id=END,
        eos_token_id=END,
        pad_token_id=0,
        initializer_range=0.3,
        attn_implementation=attention,
        **extra,
    )
    return GPT2LMHeadModel(config).eval()


@pytest.fixture(scope="module")
def model() -> GPT2LMHeadModel:
    return build()


@pytest.fixture(scope="module")
def input_ids() -> torch.Tensor:
    return torch.randint(2, VOCABULARY, (7, 6), generator=torch.Generator().manual_seed(1))


def n_hooks(model) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def direction(seed: int = 2, *rows: int) -> torch.Tensor:
    return torch.randn(*rows, LAYERS, WIDTH, generator=torch.Generator().manual_seed(seed))


def logits(model, input_ids, **extra):
    with torch.inference_mode():
        return model(input_ids, **extra).logits


# -- sites -----------------------------------------------------------------------------------------


def test_an_unknown_site_is_named(model):
    with pytest.raises(ValueError, match="site 'resid_mid' is unknown.*resid_post, mlp_out, ln_2"):
        site_modules(model, "resid_mid")


def test_an_unknown_architecture_is_named():
    config = OPTConfig(
        vocab_size=8,
        hidden_size=8,
        num_hidden_layers=1,
        ffn_dim=8,
        num_attention_heads=2,
        word_embed_proj_dim=8,
    )
    with pytest.raises(ValueError, match="OPTForCausalLM is unknown.*GPT2LMHeadModel"):
        site_modules(OPTForCausalLM(config), "resid_post")


# -- capture ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_capture_equals_the_hidden_states_of_transformers(attention, input_ids):
    model = build(attention, layers=3)
    with torch.inference_mode():
        theirs = model(input_ids, output_hidden_states=True).hidden_states
        ours = capture(model, input_ids, batch_size=3)
        assert ours.shape == (7, 3, WIDTH) and ours.dtype == torch.float32
        for layer in range(2):
            torch.testing.assert_close(ours[:, layer], theirs[layer + 1][:, -1])
        # their last one is after the final norm, ours is before it
        torch.testing.assert_close(model.transformer.ln_f(ours[:, -1]), theirs[-1][:, -1])
        assert not torch.allclose(ours[:, -1], theirs[-1][:, -1])


def test_the_sites_are_the_parts_of_a_block(model, input_ids):
    post, mlp, norm = (capture(model, input_ids, site=site) for site in SITES)
    blocks = model.transformer.h
    with torch.inference_mode():
        torch.testing.assert_close(
            torch.stack([b.mlp(norm[:, i]) for i, b in enumerate(blocks)], 1), mlp
        )
        before_mlp = post - mlp
        torch.testing.assert_close(
            torch.stack([b.ln_2(before_mlp[:, i]) for i, b in enumerate(blocks)], 1), norm
        )


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_left_padding_does_not_change_the_states(attention, input_ids):
    model, mask = build(attention), torch.ones_like(input_ids)
    mask[2:, :2], mask[4:, :4] = 0, 0
    padded = capture(model, input_ids * mask, mask)
    for row, length in enumerate(mask.sum(-1).tolist()):
        torch.testing.assert_close(
            padded[row], capture(model, input_ids[row : row + 1, -length:])[0]
        )


def test_capture_ignores_dropout_and_restores_the_mode(input_ids):
    model = build(resid_pdrop=0.5).train()
    assert torch.equal(capture(model, input_ids), capture(model, input_ids))
    assert model.training


def test_capture_of_nothing_is_empty(model, input_ids):
    assert capture(model, input_ids[:0]).shape == (0, LAYERS, WIDTH)


def test_capture_refuses_right_padding_and_bad_sizes(model, input_ids):
    mask = torch.ones_like(input_ids)
    mask[0, -1] = 0
    with pytest.raises(ValueError, match="attention_mask: pad on the left"):
        capture(model, input_ids, mask)
    with pytest.raises(ValueError, match="attention_mask .* does not fit"):
        capture(model, input_ids, mask[:, :-1])
    with pytest.raises(ValueError, match="batch_size"):
        capture(model, input_ids, batch_size=0)


def test_record_gives_every_position(model, input_ids):
    with record(model, "resid_post") as states:
        logits(model, input_ids)
    assert [tuple(state.shape) for state in states] == [(7, 6, WIDTH)] * LAYERS
    torch.testing.assert_close(
        torch.stack([state[:, -1] for state in states], 1), capture(model, input_ids)
    )


# -- shift -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("positions", ["all", "decision"])
def test_alpha_zero_is_the_identity(model, input_ids, site, positions):
    plain = logits(model, input_ids)
    with shift(model, site, 0 * direction(), positions):
        assert n_hooks(model) == 0
        assert torch.equal(logits(model, input_ids), plain)
    with shift(model, site, direction(), positions):
        assert not torch.equal(logits(model, input_ids), plain)


@pytest.mark.parametrize("site", SITES)
def test_layers_below_an_edit_are_bit_identical(model, input_ids, site):
    delta = direction()
    delta[0] = 0
    before = capture(model, input_ids)
    with shift(model, site, delta):
        assert n_hooks(model) == 1
        after = capture(model, input_ids)
    assert torch.equal(before[:, 0], after[:, 0])
    assert not torch.allclose(before[:, 1], after[:, 1])


def test_a_shift_adds_exactly_delta(model, input_ids):
    delta = direction()
    delta[0] = 0  # nothing below the last layer moves, so there the difference is delta itself
    with record(model, "resid_post") as before:
        logits(model, input_ids)
    before = before[-1]
    for positions, moved in (("all", slice(None)), ("decision", slice(-1, None))):
        with shift(model, "resid_post", delta, positions), record(model, "resid_post") as after:
            logits(model, input_ids)
        expected = torch.zeros_like(before)
        expected[:, moved] = delta[-1]
        torch.testing.assert_close(after[-1] - before, expected, atol=1e-5, rtol=0)


def test_every_row_has_its_own_shift(model, input_ids):
    deltas = direction(3, len(input_ids))
    deltas[0] = 0
    with shift(model, "mlp_out", deltas):
        together = logits(model, input_ids)
    for row, delta in enumerate(deltas):
        with shift(model, "mlp_out", delta):
            torch.testing.assert_close(
                together[row], logits(model, input_ids[row : row + 1])[0], atol=1e-4, rtol=1e-4
            )
    with (
        shift(model, "mlp_out", deltas[:3]),
        pytest.raises(ValueError, match="delta has 3 rows, the batch has 7"),
    ):
        logits(model, input_ids)


@pytest.mark.parametrize("positions", ["all", "decision"])
def test_generated_tokens_are_shifted_too(model, input_ids, positions):
    """Generation with the key-value cache equals generation without, the edits placed by hand."""
    delta, n_prompt = 2 * direction(4), input_ids.shape[1]
    with shift(model, "resid_post", delta, positions):
        cached = model.generate(
            input_ids, do_sample=False, max_new_tokens=4, pad_token_id=0, eos_token_id=None
        )
    first = 0 if positions == "all" else n_prompt - 1
    hooks = [
        block.register_forward_hook(
            lambda module, args, output, step=step: torch.cat(
                [output[:, :first], output[:, first:] + step], 1
            )
        )
        for block, step in zip(model.transformer.h, delta)
    ]
    ids = input_ids
    for _ in range(4):
        ids = torch.cat([ids, logits(model, ids, use_cache=False)[:, -1:].argmax(-1)], 1)
    for hook in hooks:
        hook.remove()
    assert torch.equal(cached, ids)


def test_a_planted_direction_flips_the_answer(model, input_ids):
    """Pushing the last layer along one token's output weights makes every answer that token."""
    planted = torch.zeros(LAYERS, WIDTH)
    planted[-1] = 100 * model.lm_head.weight[5].detach()
    assert (logits(model, input_ids)[:, -1].argmax(-1) != 5).any()
    with shift(model, "resid_post", planted, "decision"):
        assert (logits(model, input_ids)[:, -1].argmax(-1) == 5).all()


def test_hooks_are_gone_after_the_block_and_after_an_exception(model, input_ids):
    plain = logits(model, input_ids)
    with shift(model, "ln_2", direction()), record(model, "ln_2"):
        assert n_hooks(model) == 2 * LAYERS
    with pytest.raises(RuntimeError), shift(model, "ln_2", direction()), record(model, "ln_2"):
        raise RuntimeError
    assert n_hooks(model) == 0
    assert torch.equal(logits(model, input_ids), plain)


def test_a_bad_shift_is_named(model):
    with pytest.raises(ValueError, match="site 'x'"), shift(model, "x", direction()):
        pass
    with (
        pytest.raises(ValueError, match="positions 'last'"),
        shift(model, "ln_2", direction(), "last"),
    ):
        pass
    unfit = r"delta \[3, 32\] does not end in .* \[2, 32\]"
    with pytest.raises(ValueError, match=unfit), shift(model, "ln_2", torch.zeros(3, WIDTH)):
        pass
    with (
        pytest.raises(ValueError, match="delta .* is neither"),
        shift(model, "ln_2", torch.zeros(WIDTH)),
    ):
        pass
    for bad in (float("nan"), float("inf")):
        with (
            pytest.raises(ValueError, match="delta is not finite"),
            shift(model, "ln_2", direction() * bad),
        ):
            pass


def test_a_block_that_returns_a_tuple_is_read_and_shifted():
    """Blocks of older transformers put the hidden state first in a tuple."""
    model = build()
    block = model.transformer.h[0]
    inner, seen = block.forward, {}
    block.forward = lambda *args, **kwargs: (inner(*args, **kwargs), "rest")
    keep = block.register_forward_hook(
        lambda module, args, output: seen.update(output=output) or output[0]
    )
    ids = torch.tensor([[3, 4, 5]])
    delta = direction()
    delta[1] = 0
    plain = capture(model, ids)
    keep.remove()
    with shift(model, "resid_post", delta):
        block.register_forward_hook(
            lambda module, args, output: seen.update(output=output) or output[0]
        )
        logits(model, ids)
    vector, rest = seen["output"]
    assert rest == "rest"
    torch.testing.assert_close(vector[:, -1], plain[:, 0] + delta[0])


def test_llama_is_known_too():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
    )
    model, ids = LlamaForCausalLM(config).eval(), torch.tensor([[3, 4, 5]])
    with torch.inference_mode():
        theirs = model(ids, output_hidden_states=True).hidden_states
    torch.testing.assert_close(capture(model, ids)[:, 0], theirs[1][:, -1])
    assert (
        capture(model, ids, site="ln_2").shape
        == capture(model, ids, site="mlp_out").shape
        == (1, 2, 16)
    )
