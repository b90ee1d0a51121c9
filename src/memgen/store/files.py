"""Files that are never half-written, locks that go with their process, a full disk said in a sentence."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from filelock import lock_descriptor

from memgen.errors import ArtifactError

#: what a system says whose file system has no locks, or whose server of locks does not answer
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write beside the target, then rename: readers see the old file or the new one, never half."""
    aside = path.with_name(path.name + ".tmp")
    with guard_disk(path):
        aside.write_text(json.dumps(value, indent=1, allow_nan=False, default=as_json) + "\n")
        os.replace(aside, path)


def as_json(value: Any) -> Any:
    """numpy scalars and arrays, paths and models as plain JSON."""
    for method in ("model_dump", "tolist"):
        if hasattr(value, method):
            return getattr(value, method)()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise ArtifactError(
            f"{path} is damaged (not readable as JSON); delete its folder and run that stage again"
        ) from None


def lock_file(path: Path, wait: bool = False) -> TextIO | None:
    """Hold `path` alone; None if another process holds it (`wait`: wait for that one instead).

    The lock lasts while the file returned, or a child's copy of its descriptor, is open: it goes
    with the process, however that ends. On a file system without locks everybody gets it, and a
    line on stderr says so.
    """
    file = open(path, "w")  # noqa: SIM115 (the caller closes it)
    try:
        if lock_descriptor(file.fileno(), blocking=wait):
            return file
    except OSError as error:
        if error.errno in NO_LOCKS:
            print(
                f"{path.parent} lies on a file system without locks ({error.strerror}): nothing"
                " keeps a second run out of this folder, so start only one at a time",
                file=sys.stderr,
                flush=True,
            )
            return file
        file.close()
        raise
    file.close()
    return None


@contextlib.contextmanager
def guard_disk(path: Path) -> Iterator[None]:
    """Turn 'no space left on device' into a sentence that names the folder."""
    try:
        yield
    except Exception as error:
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        # safetensors raises a class of its own, without errno
        if full or "No space left on device" in str(error):
            raise ArtifactError(
                f"the disk is full: could not write {path}. Free some space and run the same"
                " command again; finished stages are kept"
            ) from None
        raise
