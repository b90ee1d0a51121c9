"""Models: ordinary transformers folders, the same weights from the same seed, clear messages for
what cannot be loaded.
"""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from memgen.errors import ArtifactError
from memgen.models.build import build_model, save_model
from memgen.models.load import load_model
from memgen.models.tokenizer import build_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer([*"0123456789", "+", "=", "<mem>"])


def build(tokenizer, seed=0, **changes):
    shape = {
        "n_layer": 2,
        "n_embd": 16,
        "n_head": 2,
        "n_positions": 32,
        "initializer_range": 0.3,
    } | changes
    return build_model(tokenizer, seed=seed, **shape).eval()


@pytest.fixture
def saved(tokenizer, tmp_path):
    model = build(tokenizer)
    save_model(tmp_path / "model", model, tokenizer)
    return model, tmp_path / "model"


def test_the_seed_decides_the_weights(tokenizer):
    one, two, other = (build(tokenizer, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["transformer.wte.weight"], other["transformer.wte.weight"])


def test_shape_and_tokens_are_as_asked(tokenizer):
    config = build(tokenizer, n_layer=3, n_embd=24, n_head=4).config
    assert (config.n_layer, config.n_embd, config.n_head, config.vocab_size) == (
        3,
        24,
        4,
        len(tokenizer),
    )
    assert (config.eos_token_id, config.pad_token_id) == (
        tokenizer.eos_token_id,
        tokenizer.pad_token_id,
    )
    assert config.resid_pdrop == config.embd_pdrop == config.attn_pdrop == 0


def test_the_fused_activation_is_gpt2s_own(tokenizer):
    from transformers.activations import ACT2FN

    x = torch.linspace(-4, 4, 200)
    torch.testing.assert_close(
        ACT2FN[build(tokenizer).config.activation_function](x), ACT2FN["gelu_new"](x)
    )


def test_plain_transformers_load_what_we_save(saved, tokenizer):
    model, folder = saved
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {
        path.name for path in folder.iterdir()
    }
    ids = tokenizer(["12+31+07="], return_tensors="pt")["input_ids"]
    assert torch.equal(
        AutoTokenizer.from_pretrained(folder)(["12+31+07="], return_tensors="pt")["input_ids"], ids
    )
    with torch.no_grad():
        expected = model(ids).logits
        for loaded in (
            AutoModelForCausalLM.from_pretrained(folder),
            load_model(folder)[0],
            load_model(folder, "sdpa")[0],
        ):
            torch.testing.assert_close(loaded.eval()(ids).logits, expected, rtol=1e-5, atol=1e-5)
    loaded = load_model(folder)[0]
    assert not loaded.training and loaded.dtype == torch.float32


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(ArtifactError, match="holds no model.*run lab 02_training"):
        load_model(tmp_path / "nothing")


@pytest.mark.parametrize(
    "name, damage",
    [
        ("model.safetensors", lambda path: path.write_bytes(path.read_bytes()[:200])),
        ("model.safetensors", lambda path: path.write_bytes(b"")),
        ("model.safetensors", lambda path: path.unlink()),
        ("config.json", lambda path: path.write_text("{")),
        ("config.json", lambda path: path.write_text(json.dumps({"model_type": "unheard-of"}))),
    ],
)
def test_a_damaged_model_is_named(saved, name, damage):
    folder = saved[1]
    damage(folder / name)
    with pytest.raises(ArtifactError) as error:
        load_model(folder)
    assert (
        str(folder) in str(error.value)
        and "02_training" in str(error.value)
        and "\n" not in str(error.value)
    )
