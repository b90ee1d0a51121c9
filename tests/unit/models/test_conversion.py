"""A GGUF file becomes a folder that says the same: by a reader that shares nothing with transformers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gguf_files import Gguf, digest, tiny_packaged, write_tiny
from memgen.errors import ArtifactError
from memgen.models import conversion
from memgen.models.conversion import PROMPTS, TOLERANCE, convert
from memgen.models.load import find_base, load_model
from memgen.models.packaged import PACKAGED, place

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """`(GGUF file, its entry, the folder that was made of it)`."""
    home = tmp_path_factory.mktemp("tiny")
    gguf = write_tiny(home / "tiny.gguf")
    model = tiny_packaged(home, gguf)
    convert(gguf, model, home / "tiny")
    return gguf, model, home / "tiny"


def gaps(folder: Path, said) -> list[float]:
    """By how much the folder's logits differ from `said(ids)`, after each prompt."""
    model, tokenizer = load_model(find_base(str(folder)))
    found = []
    with torch.inference_mode():
        for prompt in PROMPTS:
            ids = tokenizer(prompt)["input_ids"]
            logits = model(torch.tensor([ids]), use_cache=False).logits[0, -1]
            found.append(float((logits - torch.from_numpy(said(ids))).abs().max()))
    return found


def test_the_folder_says_what_the_file_says(tiny):
    gguf, _, folder = tiny
    other = Gguf(gguf)
    assert max(gaps(folder, other.logits)) < TOLERANCE
    spread = max(float(other.logits([5, 9, ids]).std()) for ids in (30, 40))
    assert spread > 0.1  # logits all alike would be met by any model


def test_the_folder_is_an_ordinary_one_in_float32(tiny):
    _, _, folder = tiny
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"] and config["dtype"] == "float32"
    assert "quantization_config" not in config and config["rope_parameters"]["rope_theta"] == 10_000
    weights = load_file(folder / "model.safetensors")
    assert {one.dtype for one in weights.values()} == {torch.float32}
    assert "lm_head.weight" not in weights  # tied
    tokenizer = load_model(folder)[1]
    for text in PROMPTS:
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_a_folder_that_says_something_else_is_not_taken(tiny, tmp_path, monkeypatch):
    gguf, model, _ = tiny

    def spoilt(folder: Path):
        found = load(folder)
        with torch.no_grad():
            found.model.layers[1].mlp.up_proj.weight[3] *= 1.1
        return found

    load = conversion._loaded
    monkeypatch.setattr(conversion, "_loaded", spoilt)
    with pytest.raises(ArtifactError, match="tiny does not say what its GGUF file says.*differ by"):
        convert(gguf, model, tmp_path / "model")


def cut(gguf: Path, share: float) -> bytes:
    whole = gguf.read_bytes()
    return whole[: int(share * len(whole))]


@pytest.mark.parametrize(
    "damage",
    [
        lambda gguf: b"",
        lambda gguf: b"<html>404 Not Found</html>",
        lambda gguf: cut(gguf, 0.5),
        lambda gguf: cut(gguf, 0.05),
        lambda gguf: b"GGUF" + bytes(60),
    ],
)
def test_a_file_that_is_no_model_is_refused_in_one_sentence(tiny, tmp_path, damage):
    gguf, model, _ = tiny
    (tmp_path / "tiny.gguf").write_bytes(damage(gguf))
    with pytest.raises(
        ArtifactError, match="GGUF file of tiny cannot be read.*make setup"
    ) as error:
        convert(tmp_path / "tiny.gguf", model, tmp_path / "model")
    assert "\n" not in str(error.value) and not (tmp_path / "model").exists()


def test_another_kind_of_model_is_refused_by_name(tiny, tmp_path):
    gguf, model, _ = tiny
    other = replace(model, architecture="Gemma3ForCausalLM")
    with pytest.raises(ArtifactError, match="holds a LlamaForCausalLM and no Gemma3ForCausalLM"):
        convert(gguf, other, tmp_path / "model")


def test_without_the_package_that_reads_it_the_set_up_is_named(monkeypatch):
    monkeypatch.setattr(conversion.util, "find_spec", lambda name: None)
    with pytest.raises(ArtifactError, match="package gguf.*run make setup"):
        conversion.versions()


@pytest.mark.slow
@pytest.mark.needs_model
@pytest.mark.parametrize("name", PACKAGED)
def test_the_packaged_model_says_what_its_gguf_file_says(name):
    """By the reader of `gguf_files.py`, which wrote these numbers from the file itself."""
    told = json.loads((HERE / "packaged" / f"{name}.json").read_text("utf8"))
    assert told["gguf"] == PACKAGED[name].sha256 and list(told["prompts"]) == list(PROMPTS)
    if not (place() / name).is_dir():
        pytest.skip(f"no {place() / name}: run make model MODEL={name}")
    model, tokenizer = load_model(find_base(str(place() / name)))
    with torch.inference_mode():
        for prompt, said in told["prompts"].items():
            ids = tokenizer(prompt)["input_ids"]
            assert ids == said["ids"]
            logits = model(torch.tensor([ids]), use_cache=False).logits[0, -1]
            tokens, theirs = zip(*said["next"].values())
            gap = (logits[list(tokens)] - torch.tensor(theirs)).abs().max()
            assert gap < TOLERANCE, prompt
            assert int(logits.argmax()) == tokens[0]
            assert [tokenizer.convert_ids_to_tokens(t) for t in tokens] == list(said["next"])


def test_the_tiny_file_is_the_same_whenever_it_is_written(tiny, tmp_path):
    """Else what the other tests plant would not be what they say."""
    assert digest(write_tiny(tmp_path / "again.gguf")) == digest(tiny[0])
