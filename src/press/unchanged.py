"""Is a built book still that of its files? Asked before anything is staged, from sizes and times alone.

Staging reads every executed lab and draws figures anew, which takes most of a minute for a whole study.
A book whose files, arguments, commit and tools are those that it was built from needs none of that.
Whoever only touches a file pays for a staging; a file that was changed always has another time.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from memgen.config.sources import STRAY
from memgen.pipeline.plan import PLANNED
from press.crate import commit
from press.sphinx_build import TOOLS

#: written by every `make book`, whether anything ran or not; no page shows them
REWRITTEN = {PLANNED, "snakemake.log", "warm.log"}
#: of the repository, but nothing a page is made of: built, downloaded, installed, broken on purpose
BESIDE = {"_build", "mutants", "node_modules", "wheelhouse"}


def state_of(runs: Path, out: Path, root: Path, asked: object) -> str:
    """sha256 over the place, size and time of every file that a book of `runs` may be made of.

    `asked`: what else the book depends on, as its `repr` says. The book itself, in `out`, is left out.
    """
    tools = [f"{tool} {version(tool)}" for tool in TOOLS]
    total = hashlib.sha256(repr((asked, commit(root), sys.version, tools)).encode())
    runs, root, out = runs.resolve(), root.resolve(), out.resolve()
    for line in (*files_below(root, {out, root / "data" / "runs"}), *files_below(runs, {out})):
        total.update(line.encode())
    return total.hexdigest()


def files_below(folder: Path, without: set[Path]) -> Iterator[str]:
    """A line per file below a folder, in an order that is always the same: place, size, time."""
    for at, folders, names in os.walk(folder):
        here = Path(at)
        folders[:] = sorted(
            name
            for name in folders
            if not STRAY.fullmatch(name) and name not in BESIDE and here / name not in without
        )
        for name in sorted(names):
            if not STRAY.fullmatch(name) and name not in REWRITTEN:
                found = os.lstat(here / name)
                yield f"{here / name} {found.st_size} {found.st_mtime_ns}\n"
