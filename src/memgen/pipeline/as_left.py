"""Was a lab executed from what is there now? Asked before papermill, which takes seconds to find that it was.

Snakemake runs a lab where something that it waits for was *written*, whatever came out. So beside a lab
that went well a note is kept: a digest of all that its numbers and its page hang on, as it was before it
ran (its notebook and modules, parameters, versions, the stamps of the labs that it reads), and the place,
size and time of every file that it left. Where both are the same there is nothing to execute.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from memgen.config.base import ROOT, StageParameters
from memgen.pipeline.plan import lab_files, read_folders
from memgen.store.files import write_whole
from memgen.store.fingerprint import processor, versions
from memgen.store.folders import stamp_beside


def made_of(name: str, p: StageParameters, given: dict[str, Any]) -> str:
    """A digest of what the lab is made of; '' where that cannot be known.

    Which folder holds the runs is no part of it: a study may be moved. A model from elsewhere may be changed
    at any time, so a lab on one is always executed.
    """
    if getattr(p, "base_model", ""):
        return ""
    digest = hashlib.sha256()
    asked = {key: value for key, value in given.items() if key != "runs"}
    here = [
        sys.version,
        processor(),
        versions(),
        asked,
        p.model_dump(mode="json", exclude={"runs"}),
    ]
    digest.update(json.dumps(here, sort_keys=True).encode())
    with suppress(OSError):
        for file in lab_files(name):
            digest.update(f"\n{_of_the_repository(file)} ".encode() + _digest(file))
        for folder in read_folders(name, p):
            digest.update(f"\n{folder.parent.name}/{folder.name} ".encode())
            digest.update(_digest(stamp_beside(folder)))
        return digest.hexdigest()
    return ""


def is_as_left(folder: Path, notebook: Path, made: str) -> bool:
    """Is the lab in `folder` as a run has left it that was made of the same?"""
    with suppress(OSError, ValueError):
        noted = json.loads(_note(folder).read_text(encoding="utf8"))
        return bool(made) and noted == {"made": made, "left": list(_left(folder, notebook))}
    return False


def note(folder: Path, notebook: Path, made: str) -> None:
    """Note that a run went well; `made`: what `made_of` said before it."""
    write_whole(
        _note(folder), json.dumps({"made": made, "left": list(_left(folder, notebook))}) + "\n"
    )


def _note(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.left.json")


def _left(folder: Path, notebook: Path) -> Iterator[str]:
    """A line per file; none of a file or a folder that is not there."""
    found = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    for path in [notebook, *found]:
        about = os.stat(path)
        yield f"{path.relative_to(folder.parent)} {about.st_size} {about.st_mtime_ns}"


def _of_the_repository(file: Path) -> str:
    return file.relative_to(ROOT).as_posix() if file.is_relative_to(ROOT) else file.name


def _digest(file: Path) -> bytes:
    return hashlib.sha256(file.read_bytes()).digest()
