"""Has a study anything to run? Asked before Snakemake, which takes seconds to find that it has not.

After a run that went well the place, size and times of every file are noted that Snakemake asks about: what
labs are made of, as it was before the run, and what they left. While all of it and the plan are the same,
nothing can have become stale. Whatever differs, Snakemake is asked.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from memgen.config.base import ROOT
from memgen.config.sources import STRAY
from memgen.pipeline.plan import PLANNED, Plan
from memgen.store.files import write_whole
from memgen.store.fingerprint import versions

NOTED = ".settled.json"  # in the study's folder; its name begins with a dot, as of all that no lab reads
#: of the study's folder, but written by every run
REWRITTEN = {PLANNED, "snakemake.log", "warm.log"}
#: of the repository: what labs are made of, and what runs them
SOURCES = ("src/memgen", "notebooks", "profiles", "Snakefile")


def sources_of(plan: Plan) -> str:
    """A digest of what the labs of a plan are made of, and of the plan."""
    lines = [line for name in SOURCES for line in _files(ROOT / name)]
    return _digest([plan.to_json(), sys.version, json.dumps(versions()), *lines])


def is_settled(plan: Plan) -> bool:
    """Is everything as a run of this plan has left it?"""
    with suppress(OSError, ValueError):
        noted = json.loads((plan.home / NOTED).read_text(encoding="utf8"))
        return bool(noted == {"sources": sources_of(plan), "left": _left(plan)})
    return False


def note(plan: Plan, sources: str) -> None:
    """Note that a run went well; `sources`: what `sources_of` said before it."""
    write_whole(plan.home / NOTED, json.dumps({"sources": sources, "left": _left(plan)}))


def _left(plan: Plan) -> str:
    return _digest(list(_files(plan.home)))


def _digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _files(folder: Path) -> Iterator[str]:
    """A line per file, in an order that is always the same; no hidden files, no editor's."""
    if folder.is_file():
        yield _line(folder)
    for at, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not STRAY.fullmatch(name))
        for name in sorted(names):
            if not STRAY.fullmatch(name) and name not in REWRITTEN:
                yield _line(Path(at, name))


def _line(path: Path) -> str:
    found = os.lstat(path)
    return f"{path} {found.st_ino} {found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"
