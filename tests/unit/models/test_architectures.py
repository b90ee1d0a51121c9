"""Every architecture beside GPT-2: its sites and parts are what a block computes, and all roads agree.

The truth is by hand: what enters and leaves a block, read with hooks on modules that every decoder has
(`mlp`, `self_attn`, the block), and transformers' own hidden states and answers.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from hub import DECODERS, by_hand, decoder, hub_folder, plant
from memgen.errors import ParameterError
from memgen.models.adapters import attach
from memgen.models.components import COMPONENTS, edited, head_width, read, unit_maps
from memgen.models.forced import Expected
from memgen.models.hooks import capture, shift
from memgen.models.load import find_base, load_model, load_tokenizer, refuse_attention
from memgen.models.packed import logits_at
from memgen.models.sites import ARCHITECTURES, architecture_of
from memgen.neurons.lens import lens_logits
from memgen.steering.engine import Decoding, run_cells
from memgen.steering.prompts import Prompts
from memgen.steering.unsteered import Unsteered
from memgen.terms import SITES
from roads import NEW, PROMPTS, check_roads

LAYERS, WIDTH, VOCABULARY, PAD, END, LENGTH = 2, 16, 12, 0, 1, 7
ALL = pytest.mark.parametrize("kind", DECODERS)


def built(kind: str, attention: str = "eager"):
    """A model of this kind over twelve tokens."""
    marks = {"bos_token_id": END, "eos_token_id": END, "pad_token_id": PAD}
    return decoder(kind, attention, vocab_size=VOCABULARY, **marks)


@pytest.fixture(scope="module")
def models() -> dict[str, nn.Module]:
    return {kind: built(kind).requires_grad_(False) for kind in DECODERS}


@pytest.fixture(scope="module")
def ids() -> torch.Tensor:
    return torch.randint(2, VOCABULARY, (5, LENGTH), generator=torch.Generator().manual_seed(1))


def ragged(ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    mask = torch.ones_like(ids)
    mask[2:, :2], mask[4:, :4] = 0, 0
    return ids * mask, mask


def steps() -> torch.Tensor:
    """No shift, a strong one, and two weak ones, `[cells, layers, width]`; one begins at layer 1."""
    found = torch.randn(4, LAYERS, WIDTH, generator=torch.Generator().manual_seed(3))
    found *= torch.tensor([0, 6, 1, 1]).view(-1, 1, 1)
    found[2, 0] = 0
    return found


def test_every_architecture_is_tried():
    assert {cls.__name__ for cls, _, _ in DECODERS.values()} == set(ARCHITECTURES) - {
        "GPT2LMHeadModel"
    }


def by_blocks(model, ids) -> dict[str, torch.Tensor]:
    """What a pass computes at the last position, `[rows, layers, width]` each: what enters a block and
    what leaves it, what its feed-forward part reads, and what enters the norm before that.
    """
    seen: dict[str, list] = {name: [] for name in ("before", "after", "read", "middle", "mixed")}
    handles = []
    for block in model.model.layers:
        handles += [
            block.register_forward_pre_hook(lambda _, args: seen["before"].append(args[0][:, -1])),
            block.register_forward_hook(lambda *found: seen["after"].append(found[2][:, -1])),
            block.mlp.register_forward_pre_hook(
                lambda _, args: seen["read"].append(args[0][:, -1])
            ),
            block.self_attn.register_forward_hook(
                lambda *found: seen["mixed"].append(found[2][0][:, -1])
            ),
        ]
        norm = {id(one): one for one in block.children() if "Norm" in type(one).__name__}
        for one in norm.values():  # the one whose output the feed-forward part reads
            handles.append(one.register_forward_hook(_middle(seen)))
    with torch.inference_mode():
        model(ids, use_cache=False)
    for handle in handles:
        handle.remove()
    found = {name: torch.stack(values, 1) for name, values in seen.items() if name != "middle"}
    middle = []
    for layer in range(LAYERS):
        fits = [before for before, made in seen["middle"] if torch.equal(made, seen["read"][layer])]
        middle.append(fits[0])
    return found | {"middle": torch.stack(middle, 1)}


def _middle(seen):
    return lambda _, args, output: seen["middle"].append((args[0][:, -1], output[:, -1]))


@ALL
def test_the_sites_are_what_a_block_reads_and_adds(models, ids, kind):
    model, truth = models[kind], by_blocks(models[kind], ids)
    found = {name: read(model, ids, torch.ones_like(ids), name, last=True) for name in COMPONENTS}
    close = torch.testing.assert_close
    close(found["resid_post"], truth["after"])
    close(found["ln_2"], truth["read"])
    close(found["mlp_out"], truth["after"] - truth["middle"], atol=1e-5, rtol=1e-4)
    close(found["attn_out"], truth["middle"] - truth["before"], atol=1e-5, rtol=1e-4)
    for layer, block in enumerate(model.model.layers):
        mixed = found["heads"][:, layer] @ block.self_attn.o_proj.weight.T
        close(mixed, truth["mixed"][:, layer], atol=1e-5, rtol=1e-4)
        mlp, x = block.mlp, truth["read"][:, layer]
        close(found["units"][:, layer], mlp.act_fn(mlp.gate_proj(x)) * mlp.up_proj(x))
        close(found["units"][:, layer] @ unit_maps(model)[layer], mlp(x))
    heads = model.config.num_attention_heads
    assert head_width(model) * heads == found["heads"].shape[-1]
    for site in SITES:
        close(capture(model, ids, site=site), found[site])


@ALL
def test_capture_equals_the_hidden_states_of_transformers(models, ids, kind):
    model, (padded, mask) = models[kind], ragged(ids)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    with torch.inference_mode():
        theirs = model(
            padded, attention_mask=mask, position_ids=positions, output_hidden_states=True
        ).hidden_states
        ours = capture(model, padded, mask)
        torch.testing.assert_close(ours[:, 0], theirs[1][:, -1])
        torch.testing.assert_close(model.model.norm(ours[:, 1]), theirs[2][:, -1])
    for row, length in enumerate(mask.sum(-1).tolist()):  # padding is not read
        alone = capture(model, padded[row : row + 1, -length:])[0]
        torch.testing.assert_close(ours[row], alone, atol=1e-5, rtol=1e-4)


@ALL
def test_the_lens_at_the_last_layer_and_chosen_logits_are_the_models(models, ids, kind):
    """Bounded logits among them (Gemma 2), which the output embedding's products are not."""
    model = models[kind]
    with torch.inference_mode():
        own = model(ids, use_cache=False).logits
        tokens = torch.arange(VOCABULARY).expand(len(ids), -1).numpy()
        lens = lens_logits(model, capture(model, ids).numpy(), tokens)
        torch.testing.assert_close(torch.from_numpy(lens[:, -1]), own[:, -1], atol=1e-4, rtol=1e-4)
        wanted = torch.zeros_like(ids, dtype=torch.bool)
        wanted[1, 2:5] = wanted[3, -1] = True
        torch.testing.assert_close(logits_at(model, ids, wanted), own[wanted], atol=1e-4, rtol=1e-4)
    bounded = architecture_of(model).softcaps and model.config.final_logit_softcapping
    assert not bounded or own.abs().max() <= bounded


@ALL
def test_adapters_go_on_every_linear_map_of_a_block(models, ids, kind):
    model = built(kind)
    there = {
        name.rpartition(".")[2]
        for block in model.model.layers
        for name, one in block.named_modules()
        if isinstance(one, nn.Linear)
    }
    assert there == set(architecture_of(model).linear)
    adapted = attach(model, rank=2, alpha=4.0, dropout=0.0, targets=[], seed=0)
    named = [name for name, _ in adapted.named_parameters() if "lora_A" in name]
    assert len(named) == len(there) * LAYERS
    plain = models[kind](ids, use_cache=False).logits
    torch.testing.assert_close(adapted.eval()(ids, use_cache=False).logits, plain)
    adapted.train()
    loss = logits_at(adapted, ids, torch.ones_like(ids, dtype=torch.bool)).logsumexp(-1).sum()
    loss.backward()
    assert all(
        weight.grad.abs().sum() > 0
        for name, weight in adapted.named_parameters()
        if "lora_B" in name
    )


@ALL
@pytest.mark.parametrize("site", SITES)
def test_alpha_zero_is_the_identity(models, ids, kind, site):
    model, delta = models[kind], steps()[1]
    with torch.inference_mode():
        plain = model(ids, use_cache=False).logits
        with shift(model, site, 0 * delta):
            assert torch.equal(model(ids, use_cache=False).logits, plain)
        with shift(model, site, delta):
            assert not torch.allclose(model(ids, use_cache=False).logits, plain)


def answers(model, prompts: Prompts, delta: torch.Tensor, site: str, positions: str) -> list:
    """Hooks + `generate`, one cell: the reference."""
    with shift(model, site, delta, positions):
        out = model.generate(
            prompts.input_ids,
            attention_mask=prompts.attention_mask,
            do_sample=False,
            max_new_tokens=4,
            pad_token_id=PAD,
            eos_token_id=END,
        )
    new = out[:, prompts.input_ids.shape[1] :].tolist()
    return [row[: row.index(END) + 1] if END in row else row for row in new]


@ALL
@pytest.mark.parametrize(
    "site, positions", [("resid_post", "all"), ("mlp_out", "decision"), ("ln_2", "all")]
)
def test_the_sweep_equals_plain_hooks_and_generate(models, ids, kind, site, positions):
    """Windows are shorter than the prompts, so that a shared beginning is seen by part of a row only."""
    attention = "eager" if kind == "gemma2" or site == "ln_2" else "sdpa"
    model = models[kind] if attention == "eager" else built(kind, attention)
    rows, mask = ragged(ids)
    prompts, deltas = Prompts(rows, mask, torch.full((len(ids), 2, 4), -1)), steps()
    for i, delta in enumerate(deltas[:2]):
        for row, said in enumerate(answers(model, prompts, delta, site, positions)):
            prompts.candidates[row, i, : len(said)] = torch.tensor(said)
    wanted = [[[t for t in c if t != -1] for c in pair] for pair in prompts.candidates.tolist()]
    expected = [
        [
            pair.index(said) if said in pair else 2
            for said, pair in zip(answers(model, prompts, delta, site, positions), wanted)
        ]
        for delta in deltas
    ]
    assert {0, 1} <= {code for row in expected for code in row}
    for early_end in (True, False):
        decoding = Decoding(site, positions, 4, END, rows_per_batch=7, early_end=early_end)
        assert run_cells(model, prompts, deltas, decoding).tolist() == expected


@ALL
def test_the_unsteered_pass_is_the_models_own(models, ids, kind):
    model, (rows, mask) = models[kind], ragged(ids)
    with torch.inference_mode():
        found = Unsteered.of(model, Prompts(rows, mask, torch.zeros(len(ids), 2, 1).long()))
    states = read(model, rows, mask, "resid_post")
    for layer in range(LAYERS):
        torch.testing.assert_close(
            found.outputs[layer][mask.bool()], states[:, layer][mask.bool()], atol=1e-5, rtol=1e-4
        )


@ALL
def test_an_edit_of_a_part_is_seen_in_the_next_block_and_nowhere_before(models, ids, kind):
    model, mask = models[kind], torch.ones_like(ids)
    before = read(model, ids, mask, "resid_post")
    for component in COMPONENTS:
        with edited(model, {(component, 1): lambda vector: vector + 1}):
            after = read(model, ids, mask, "resid_post")
        assert torch.equal(before[:, 0], after[:, 0])
        assert not torch.allclose(before[:, 1], after[:, 1], atol=1e-3), component


# -- folders as a hub holds them -----------------------------------------------------------------------
NEW_KINDS = [kind for kind in DECODERS if kind != "llama"]


@pytest.fixture(scope="module", params=NEW_KINDS)
def folder(request, tmp_path_factory):
    return hub_folder(tmp_path_factory.mktemp(request.param) / "model", request.param, PROMPTS)


def test_all_roads_give_the_answers_found_by_hand(folder):
    """With a begin mark before every text, keys and values kept or not, forced or written."""
    said = by_hand(folder, PROMPTS, NEW)
    assert len({tuple(row) for row in said}) > 1
    model, tokenizer = load_model(find_base(str(folder)))
    check_roads(model, tokenizer, said)
    end = tokenizer.eos_token_id
    whole = [row for row in said if end in row and len(row) > 1]
    if whole:
        texts = [tokenizer.decode(row[:-1]) for row in whole]
        asked = [prompt for prompt, row in zip(PROMPTS, said) if row in whole]
        expected = Expected.of(tokenizer, asked, texts)
        given = tokenizer(texts, add_special_tokens=False)["input_ids"]
        same = [tokens == row[:-1] for tokens, row in zip(given, whole)]
        assert (
            expected.met(model).tolist() == same
        )  # where the text has the tokens that were written


@pytest.mark.parametrize("kind", ["gemma", "gemma2", "gemma3", "qwen2"])
def test_tied_embeddings_are_read_and_written_alike(kind, tmp_path):
    folder = hub_folder(tmp_path / "tied", kind, PROMPTS, tie_word_embeddings=True)
    check_roads(*load_model(folder), by_hand(folder, PROMPTS, NEW))


def test_a_model_that_reads_both_ways_is_refused_by_name(tmp_path):
    folder = hub_folder(tmp_path / "model", "gemma3", PROMPTS)
    plant(folder, "config.json", use_bidirectional_attention=True)
    with pytest.raises(ParameterError, match="both directions .use_bidirectional_attention"):
        find_base(str(folder))


def test_a_kernel_that_leaves_out_what_the_model_does_is_refused_by_name(tmp_path):
    """Gemma 2 bounds its attention scores, which sdpa cannot; nothing is loaded before that is said."""
    folder = hub_folder(tmp_path / "model", "gemma2", PROMPTS)
    refuse_attention(str(folder), "eager")
    with pytest.raises(ParameterError, match="attention='sdpa'.*Gemma2.*choose attention=eager"):
        refuse_attention(str(folder), "sdpa")
    with pytest.raises(ParameterError, match="attention='sdpa'.*choose attention=eager"):
        load_model(folder, attention="sdpa")


def test_what_was_loaded_elsewhere_answers_alike(tmp_path):
    folder = hub_folder(tmp_path / "model", "gemma3", PROMPTS)
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    check_roads(model, load_tokenizer(folder), by_hand(folder, PROMPTS, NEW))
