"""One byte of a file is another: found and named by its reader, for every kind of file.

The campaign in `tests/torture/flip.py` draws many; here are a few of each kind, and the ends of files.
"""

from __future__ import annotations

import numpy as np
import pytest

from memgen.errors import ArtifactError
from memgen.store.artifacts import MANIFEST, Stage, read_manifest
from memgen.store.files import read_sealed, write_json, write_sealed
from memgen.training.state import MODEL, NEXT, STATE, read_state
from torture.flip import KINDS, campaign, flip, small_run


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    return small_run(tmp_path_factory.mktemp("run"))


def test_untouched_files_are_read(targets):
    assert {target.kind for target in targets} == set(KINDS)
    assert not [target.path for target in targets if target.read()]


def test_a_flipped_byte_is_found_and_named(targets):
    outcome = campaign(targets, draws=4 * len(KINDS), seed=1)
    assert not outcome["missed"] and outcome["found"] == outcome["drawn"]


@pytest.mark.parametrize("place", [0, -1])
def test_the_first_and_the_last_byte(targets, place):
    class Ends:
        def integers(self, low, high=None):
            return 1 if high else place % low

    for target in targets:
        assert flip(target, Ends()), target.path


#: what becomes of a file that holds these bytes; None: nothing is left of it
DAMAGES = {
    "missing": lambda whole: None,
    "empty": lambda whole: b"",
    "cut in half": lambda whole: whole[: len(whole) // 2],
    "cut by a byte": lambda whole: whole[:-1],
    "longer by a byte": lambda whole: whole + b"\n",
    "zeros": lambda whole: bytes(len(whole)),
    "a page of a web server": lambda whole: b"<html>404 Not Found</html>",
}


@pytest.mark.parametrize("name", [*DAMAGES, "a folder"])
def test_a_damaged_file_is_refused_by_name(targets, name):
    """Each file of each kind; a training whose state is not there begins, which is no damage."""
    for target in targets:
        path, whole = target.path, target.path.read_bytes()
        left = DAMAGES[name](whole) if name in DAMAGES else None
        if left is None and path.name == STATE:
            continue
        path.unlink()
        if name == "a folder":
            path.mkdir()
        elif left is not None:
            path.write_bytes(left)
        said = target.read()
        path.rmdir() if name == "a folder" else path.unlink(missing_ok=True)
        path.write_bytes(whole)
        assert str(path.parent) in said and "\n" not in said.strip(), (path, said)
    assert not [target.path for target in targets if target.read()]


def test_every_byte_of_a_sealed_file(tmp_path):
    """White space is bytes, too, and so is the seal itself."""
    path = tmp_path / "a.json"
    write_sealed(path, {"a": [1, 2.5], "b": {"c": "x y"}})
    assert read_sealed(path, ()) == {"a": [1, 2.5], "b": {"c": "x y"}}
    before = path.read_bytes()
    for place in range(len(before)):
        for value in (before[place] ^ 1, ord(" "), ord("0"), ord('"')):
            changed = bytearray(before)
            changed[place] = value
            path.write_bytes(changed)
            if changed != before:
                with pytest.raises(ArtifactError, match="a.json"):
                    read_sealed(path, ("a", "b"))


def test_a_manifest_of_an_earlier_version_is_read_and_one_without_its_seal_is_not(tmp_path):
    write_json(tmp_path / MANIFEST, {"parameters": {}, "outputs": {}})
    assert read_manifest(tmp_path) == {"parameters": {}, "outputs": {}}
    write_json(tmp_path / MANIFEST, {"parameters": {}, "outputs": {}, "sea1": "0" * 64})
    with pytest.raises(ArtifactError, match="was altered"):
        read_manifest(tmp_path)


def test_a_stage_with_a_flipped_manifest_is_made_again(tmp_path):
    stage = Stage(tmp_path / "01_a", {"n": 48})
    stage.begin()
    stage.finish({})
    path = stage.folder / MANIFEST
    path.write_bytes(path.read_bytes().replace(b"cores", b"cores".upper()))
    assert not stage.finished()
    with pytest.raises(ArtifactError, match="01_a.*was altered"):
        Stage(tmp_path / "02_b", {}, [stage.folder]).begin()


# -- a kill between the checkpoint and its state ----------------------------------------------------
def test_whenever_it_is_killed_a_state_has_its_own_checkpoint(tmp_path):
    import torch

    from memgen.training.state import put_in_place, write_checkpoint, write_state

    def save(text):
        def write(folder):
            folder.mkdir()
            (folder / "weights").write_text(text)

        return write

    def kept() -> tuple[int, str]:
        _, about = read_state(tmp_path)
        assert not (tmp_path / NEXT).exists()
        return about["step"], (tmp_path / MODEL / "weights").read_text()

    tensors = {
        "x": torch.arange(3.0),
        "half": torch.ones(2, dtype=torch.bfloat16),
        "n": torch.tensor(1),
    }
    first = write_checkpoint(tmp_path, save("first"))
    write_state(tmp_path, tensors, {"step": 1, "checkpoint": first})
    assert kept() == (1, "first")  # killed before it was put in place
    second = write_checkpoint(tmp_path, save("second"))
    assert kept() == (1, "first")  # killed before its state was written
    second = write_checkpoint(tmp_path, save("second"))
    write_state(tmp_path, tensors, {"step": 2, "checkpoint": second})
    put_in_place(tmp_path)
    assert kept() == (2, "second")
    read, _ = read_state(tmp_path)
    assert all(np.array_equal(read[name].float(), tensors[name].float()) for name in tensors)


def test_a_state_without_the_checkpoint_that_it_kept_is_no_state(tmp_path, capsys):
    from memgen.training.state import write_state

    write_state(tmp_path, {}, {"checkpoint": {"weights": "0" * 64}})
    assert read_state(tmp_path) is None and not (tmp_path / STATE).exists()
    assert f"{tmp_path / MODEL} was altered or truncated; this training starts again" in (
        capsys.readouterr().out
    )
