"""A model folder in which something is missing, damaged or of another kind is refused by name."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hub import hub_folder, plant
from memgen.errors import StudyError
from memgen.models.load import find_base, load_model

KINDS = ("gpt2", "llama")
CONFIG, WEIGHTS, TOKENS = "config.json", "model.safetensors", "tokenizer.json"
Damage = Callable[[Path], object]


def holding(name: str, content: bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(content)


def cut(name: str, share: float) -> Damage:
    """The file ends before this share of its bytes."""

    def damage(folder: Path) -> None:
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: int(share * len(whole))])

    return damage


def without(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def a_folder(name: str) -> Damage:
    return lambda folder: ((folder / name).unlink(), (folder / name).mkdir())


def nowhere(name: str) -> Damage:
    return lambda folder: ((folder / name).unlink(), (folder / name).symlink_to("nowhere"))


def says(**values) -> Damage:
    return lambda folder: plant(folder, CONFIG, **values)


def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Damage:
    def damage(folder: Path) -> None:
        found = load_file(folder / WEIGHTS)
        change(found)
        save_file(found, folder / WEIGHTS, {"format": "pt"})

    return damage


def pickled(folder: Path) -> None:
    """Weights of a kind whose loading can execute code."""
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()


def in_shards(folder: Path) -> None:
    """An index of two files of which one is not there."""
    names = list(load_file(folder / WEIGHTS))
    places = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(names)}
    (folder / WEIGHTS).rename(folder / "model-00001-of-00002.safetensors")
    plant(folder, "model.safetensors.index.json", metadata={}, weight_map=places)


def emptied(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def wider(found: dict[str, torch.Tensor]) -> None:
    name = next(name for name in found if "mlp" in name and found[name].dim() == 2)
    found[name] = torch.cat([found[name]] * 2)


def not_a_number(found: dict[str, torch.Tensor]) -> None:
    next(value for name, value in found.items() if "mlp" in name).view(-1)[0] = float("nan")


DAMAGES: dict[str, Damage] = {
    "empty folder": emptied,
    **{
        f"{name}: {what}": damage(name)
        for name in (CONFIG, WEIGHTS, TOKENS)
        for what, damage in {
            "missing": without,
            "empty": lambda name: holding(name, b""),
            "cut in half": lambda name: cut(name, 0.5),
            "cut at the end": lambda name: cut(name, 0.98),
            "a folder": a_folder,
            "a link that leads nowhere": nowhere,
            "not UTF-8": lambda name: holding(name, b"\xff\xfe\x00\x01" * 9),
            "a pointer of Git LFS": lambda name: holding(
                name, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
            ),
            "a page of a web server": lambda name: holding(name, b"<html>404 Not Found</html>"),
            "a list": lambda name: holding(name, b"[]"),
            "null": lambda name: holding(name, b"null"),
            "no values": lambda name: holding(name, b"{}"),
        }.items()
    },
    "config.json: an unknown kind": says(model_type="nonesuch", architectures=["Nonesuch"]),
    "config.json: another known kind": says(model_type="bert", architectures=["BertForMaskedLM"]),
    "config.json: no language model": says(architectures=["GPT2ForSequenceClassification"]),
    "config.json: a width that is no number": says(n_embd="wide", hidden_size="wide"),
    "config.json: another width": says(n_embd=32, hidden_size=32),
    "config.json: no width": says(n_embd=0, hidden_size=0),
    "config.json: more layers": says(n_layer=3, num_hidden_layers=3),
    "config.json: fewer layers": says(n_layer=1, num_hidden_layers=1),
    "config.json: heads that do not divide the width": says(n_head=3, num_attention_heads=3),
    "config.json: a smaller vocabulary": says(vocab_size=20),
    "config.json: a larger vocabulary": says(vocab_size=5000),
    "config.json: another activation": says(activation_function="none", hidden_act="none"),
    "config.json: code of its own": says(
        model_type="own", auto_map={"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Model"}
    ),
    "weights: pickled": pickled,
    "weights: in shards, one missing": in_shards,
    "weights: none": tensors(dict.clear),
    "weights: one of another shape": tensors(wider),
    "weights: one that is not a number": tensors(not_a_number),
    "tokenizer.json: another format": lambda folder: plant(folder, TOKENS, version="9.9", model=3),
    "tokenizer_config.json: cut": cut("tokenizer_config.json", 0.5),
    "tokenizer_config.json: a list": holding("tokenizer_config.json", b"[]"),
}
#: what is given as a base and is no folder of a model
NO_FOLDERS = ["README.md", "", "~nosuchuser/model", "a" * 300, "no/such/model"]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, Path]:
    texts = ["shift 1: dog ->", "shift 2: owl ->"]
    return {k: hub_folder(tmp_path_factory.mktemp(k) / "model", k, texts) for k in KINDS}


def refused(folder: Path) -> str:
    """What is said on the way that a base takes, before anything is computed."""
    try:
        load_model(find_base(str(folder)))
    except StudyError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", DAMAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_model_is_refused_in_one_sentence(made, tmp_path, kind, name):
    folder = Path(shutil.copytree(made[kind], tmp_path / "model"))
    DAMAGES[name](folder)
    said = refused(folder)
    assert str(folder) in said and "\n" not in said.strip(), said or "it is taken"


def test_an_undamaged_one_is_taken(made):
    assert [refused(folder) for folder in made.values()] == ["", ""]


@pytest.mark.parametrize("given", NO_FOLDERS)
def test_what_is_no_folder_of_a_model_is_refused(given):
    with pytest.raises(StudyError) as error:
        find_base(given)
    assert "\n" not in str(error.value)
