"""What a build of the book leaves for the next one, in `<out>/.doctrees`: pages as Sphinx has read them.

Sphinx keeps them as pickles, and whoever loads a pickle runs what it says. Nothing else in this project
loads one, and these only if they are the very files that the last build wrote here: `kept.json` names each
with its inode and the time of its last change, which the system sets and no archive, copy or editor can.
Files that were copied, unpacked or touched are thrown away, and the book is built from its sources.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memgen.config.sources import own_files
from memgen.store.files import sha256

DOCTREES = ".doctrees"  # of a book's folder
RECORD = "kept.json"
#: in it, by `press.kept_pages`: the pages that were written, and page -> digest of what it shows of others
WRITTEN = "written.json"
#: staged files that every page may depend on: these, and what begins with `_` (settings, extensions, styles)
OF_ALL = {"references.bib", "conf.py"}
#: how the names of the files end that are taken over from a former book, or read anew
TAKEN_OVER = (".html", "searchindex.js")


@dataclass(frozen=True)
class Kept:
    """A former build that the next one may begin from; `changed`: the staged files that differ by now."""

    html: Path
    doctrees: Path
    changed: list[str]


def digests(source: Path) -> dict[str, str]:
    """sha256 of every staged file, by its place; not of what Python leaves beside an extension it loads."""
    staged = own_files(source, "**/*")
    return {path.relative_to(source).as_posix(): sha256(path) for path in staged}


def digest_of(content: Any) -> str:
    """sha256 of anything that can be told in JSON."""
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def seal(path: Path) -> list[int]:
    """What tells a file from any other that was ever written in its place."""
    found = os.lstat(path)
    return [
        *(found.st_dev, found.st_ino, found.st_uid, found.st_mode, found.st_nlink),
        *(found.st_size, found.st_mtime_ns, found.st_ctime_ns),
    ]


def keep(doctrees: Path, html: Path, staged: dict[str, str], tools: str) -> None:
    """Record a build that went well, before its folders get their final names."""
    record = {
        "tools": tools,
        "staged": staged,
        "doctrees": _seals(doctrees),
        "html": _seals(html, TAKEN_OVER),
    }
    (doctrees / RECORD).write_text(json.dumps(record), encoding="utf8")


def find(out: Path, staged: dict[str, str], tools: str) -> Kept | None:
    """The former build in `out`, if nothing has changed that every page depends on; else None.

    `tools`: what else the pages depend on. What no build can begin from is removed.
    """
    doctrees, html = out / DOCTREES, out / "html"
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        record = json.loads((doctrees / RECORD).read_text(encoding="utf8"))
        before = record["staged"]
        changed = sorted(
            name for name in {*before, *staged} if before.get(name) != staged.get(name)
        )
        if (
            record["tools"] == tools
            and not any(name in OF_ALL or name.startswith("_") for name in changed)
            and record["doctrees"] == _seals(doctrees)
            and record["html"] == _seals(html, TAKEN_OVER)
        ):
            return Kept(html, doctrees, changed)
    shutil.rmtree(doctrees, ignore_errors=True)
    return None


def _seals(folder: Path, ends: tuple[str, ...] = ("",)) -> dict[str, list[int]]:
    return {
        path.relative_to(folder).as_posix(): seal(path)
        for path in sorted(folder.rglob("*"))
        if path.name.endswith(ends) and path.name != RECORD and not path.is_dir()
    }
