"""Files that are never half-written, locks that go with their process, a full disk said in a sentence."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, TextIO

from filelock import lock_descriptor

from memgen.errors import ArtifactError

#: what a system says whose file system has no locks, or whose server of locks does not answer
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


def sha256(path: Path) -> str:
    """Hex digest of a file. `ArtifactError`: it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read ({error.strerror})") from None


def write_whole(path: Path, text: str) -> None:
    """Write beside the target, then rename: readers see the old file or the new one, never half."""
    aside = path.with_name(path.name + ".tmp")
    with guard_disk(path):
        aside.write_text(text)
        os.replace(aside, path)


def write_json(path: Path, value: Any) -> None:
    """As `write_whole`, a value as JSON."""
    write_whole(path, json.dumps(value, indent=1, allow_nan=False, default=as_json) + "\n")


#: how the last line of a sealed file begins: the SHA-256 of every byte before it
_SEAL = b',\n "seal": "'
_END = b'"\n}\n'


def write_sealed(path: Path, value: dict[str, Any]) -> None:
    """As `write_json`, with the SHA-256 of the text as its last value, `seal`."""
    text = json.dumps(value, indent=1, allow_nan=False, default=as_json).encode()
    head = text.removesuffix(b"\n}")
    aside = path.with_name(path.name + ".tmp")
    with guard_disk(path):
        aside.write_bytes(head + _SEAL + hashlib.sha256(head).hexdigest().encode() + _END)
        os.replace(aside, path)


def read_sealed(path: Path, unsealed: Collection[str]) -> dict[str, Any]:
    """What `write_sealed` wrote, without the seal. `ArtifactError` if a byte of it is another.

    A file without a seal is one of an earlier version if it has no values but those of `unsealed`.
    """
    value = read_json(path)
    head, found, seal = path.read_bytes().rpartition(_SEAL)
    if found:
        intact = seal == hashlib.sha256(head).hexdigest().encode() + _END
    else:
        intact = isinstance(value, dict) and set(value) <= set(unsealed)
    if not intact:
        raise ArtifactError(
            f"{path} was altered (its SHA-256 differs from its seal); delete its folder and run that"
            " stage again"
        )
    return {name: one for name, one in value.items() if name != "seal"}


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
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read ({error.strerror})") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise ArtifactError(
            f"{path} is damaged (not readable as JSON); delete its folder and run that stage again"
        ) from None


def lock_file(path: Path, wait: bool = False) -> TextIO | None:
    """Hold `path` alone; None if another process holds it (`wait`: wait for that one instead).

    The lock lasts while the file returned, or a child's copy of its descriptor, is open: it goes
    with the process, however that ends. The file says who holds it, or was the last to do so. On a
    file system without locks everybody gets it, and a line on stderr says so.
    """
    file = open(path, "a+")  # noqa: SIM115 (the caller closes it)
    try:
        if lock_descriptor(file.fileno(), blocking=wait):
            sign_lock(file)
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


def sign_lock(file: TextIO, **more: str) -> None:
    """Write into a lock that is held which process holds it, and what else is named."""
    file.seek(0)
    file.truncate()
    json.dump({"pid": os.getpid(), "host": socket.gethostname(), **more}, file)
    file.flush()


def read_lock(path: Path) -> dict[str, Any]:
    """What was written into a lock: `pid`, `host` and what else; empty if it cannot be read."""
    try:
        said = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def lock_holder(path: Path) -> str:
    """': process 123' (and on which other machine) for the one that holds a lock, '' if unknown."""
    said = read_lock(path)
    if "pid" not in said:
        return ""
    elsewhere = said.get("host") != socket.gethostname()
    return f": process {said['pid']}" + (f" on {said.get('host')}" if elsewhere else "")


def lock_is_orphaned(path: Path) -> bool:
    """Has the process that took a lock ended, on this machine? Then what is left of it soon has, too."""
    said = read_lock(path)
    if said.get("host") != socket.gethostname() or not isinstance(said.get("pid"), int):
        return False
    try:
        os.kill(said["pid"], 0)
    except ProcessLookupError:
        return True
    except OSError:  # another user's
        pass
    return False


@contextlib.contextmanager
def guard_disk(path: Path) -> Iterator[None]:
    """Turn 'no space left on device' into a sentence that names what could not be written."""
    try:
        yield
    except Exception as error:
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        # safetensors raises a class of its own, without errno
        if full or "No space left on device" in str(error):
            raise ArtifactError(disk_full(getattr(error, "filename", None) or path)) from None
        raise


def disk_full(path: Path | str) -> str:
    """The sentence for a full disk; that of the temporary files may be another, and the full one."""
    if not is_full(path) and is_full(temporary := tempfile.gettempdir()):
        path = temporary
    return (
        f"the disk is full: could not write {path}. Free some space and run the same command again;"
        " finished stages are kept"
    )


def is_full(path: Path | str) -> bool:
    """Has the disk on which a path lies, or would lie, less than a megabyte left?"""
    there = next(one for one in [Path(path), *Path(path).absolute().parents] if one.exists())
    return shutil.disk_usage(there).free < 2**20
