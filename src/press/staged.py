"""What was staged last time, and what of it is still right: nothing is made again from the same files.

Beside the staged sources, `<sources>.json` tells what they were made of. A lab's page is kept while its
notebook, its result and the code that shows them are what they were; if nothing but templates of prose has
changed, all the rest is kept. A file counts as unchanged by its place, size and times, a template by its
content.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, TemplateSyntaxError
from jinja2.meta import find_referenced_templates

from memgen.config.base import ROOT
from memgen.config.sources import own_files
from press.kept_build import seal
from press.lab_page import Figure
from press.run import NEEDED, ExecutedLab, Run
from press.sphinx_build import TOOLS
from press.unchanged import files_below

#: libraries that figures and pages are made with, beside those that turn pages into HTML
LIBRARIES = (*TOOLS, "jinja2", "matplotlib", "numpy", "pandas", "pillow", "nbformat")
PROSE = (".md", ".jinja")  # templates, below `book`
#: of `src`, what shows a lab on its page; what computes and draws it has done so
SHOWING = ("press", "memgen/config", "memgen/store", "memgen/tasks")


@dataclass
class Staged:
    """The staged files by what they are made of.

    `rest`: a digest of all but templates; `templates`: page -> digest of what its text is; `labs`: page ->
    what it was made of, its figures' texts and its files; `files`: place -> its seal.
    """

    rest: str = ""
    templates: dict[str, str] = field(default_factory=dict)
    labs: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, source: Path) -> Staged:
        """What is recorded of `source`; nothing where there is no record, or none that can be read."""
        with suppress(OSError, ValueError, TypeError):
            found = cls(**json.loads(record_of(source).read_text(encoding="utf8")))
            made = found.files
            found.files = {place: one for place, one in made.items() if _is(source / place, one)}
            if len(found.files) < len(made):  # somebody was here: only whole labs are kept
                found.rest = ""
            return found
        return cls()

    def write(self, source: Path) -> None:
        self.files = {
            path.relative_to(source).as_posix(): seal(path)
            for path in source.rglob("*")
            if path.is_file()
        }
        record_of(source).write_text(json.dumps(self.__dict__), encoding="utf8")

    def lab(self, page: str, made_of: str) -> dict[str, Any] | None:
        """What is recorded of a lab that was made of the same, if all its files are there."""
        found = self.labs.get(page)
        if found and found["made_of"] == made_of and self.has(found["files"]):
            return found
        return None

    def has(self, places: Iterable[str]) -> bool:
        return all(place in self.files for place in places)

    def pages_to_write(self, now: Staged) -> set[str] | None:
        """The pages whose templates alone have changed; None: more has, or a file is gone."""
        pages = set(now.templates)
        whole = self.rest == now.rest and set(self.templates) == pages and self.has(pages)
        if not whole or any(not self.has(lab["files"]) for lab in self.labs.values()):
            return None
        return {page for page in pages if self.templates[page] != now.templates[page]}


def record_of(source: Path) -> Path:
    return source.with_name(f"{source.name}.json")


def _is(path: Path, made: list[int]) -> bool:
    with suppress(OSError):
        return seal(path) == made
    return False


# -- what it is made of -------------------------------------------------------------------------------
def rest_of(run: Run, root: Path, out: Path) -> str:
    """All that the staged sources of a run are made of, but templates of prose. `out`: their folder's."""
    book = (root / "book").resolve()
    without = {out.resolve(), root.resolve() / "data" / "runs", root.resolve() / "tests"}
    lines = [
        line
        for folder in (root.resolve(), home_of(run).resolve(), ROOT / "src")
        for line in files_below(folder, without)
        if not (line.startswith(f"{book}{os.sep}") and line.rsplit(" ", 2)[0].endswith(PROSE))
    ]
    return _digest([_tools(), _chosen(run), *lines])


def showing(run: Run) -> str:
    """What every lab's page is made of beside the lab itself."""
    source = ROOT / "src"
    folders = [*(source / name for name in SHOWING), ROOT / "notebooks" / "presets"]
    lines = [line for folder in folders for line in files_below(folder, set())]
    lines += [f"{path} {seal(path)}" for path in sorted((source / "memgen").glob("*.py"))]
    return _digest([_tools(), _chosen(run), [lab.page for lab in run.all_pages], *lines])


def made_of(lab: ExecutedLab, shown_by: str) -> str:
    """What a lab's page is made of, `showing` included."""
    files = [lab.notebook, *(lab.folder / name for name in NEEDED)]
    return _digest([shown_by, lab.page, *([str(path.resolve()), seal(path)] for path in files)])


def templates_of(environment: Environment, folder: Path) -> dict[str, str]:
    """Page -> digest of its template and of what that includes."""

    def text(name: str, seen: set[str]) -> list[str]:
        if name in seen or not (folder / name).is_file():
            return []
        own = (folder / name).read_text(encoding="utf8")
        asked = _includes(environment, own) if "{%" in own else []
        seen |= {name}
        return [name, own, *(part for one in asked for part in text(one or "", seen))]

    pages = [path.relative_to(folder).as_posix() for path in own_files(folder, "**/*.md")]
    return {page: _digest(text(page, set())) for page in pages}


def _includes(environment: Environment, template: str) -> list[str | None]:
    """What a template includes; of one that cannot be read nothing: rendering it names its page."""
    try:
        return list(find_referenced_templates(environment.parse(template)))
    except TemplateSyntaxError:
        return []


def home_of(run: Run) -> Path:
    """The folder of all tracks."""
    return run.root if run.track == "scratch" else run.root.parent


def _chosen(run: Run) -> list[Any]:
    return [
        [one.track, one.seeds, [[m.task, m.seed, m.why] for m in one.missed]] for one in run.every
    ]


def _tools() -> list[str]:
    return [sys.version, *(f"{name} {version(name)}" for name in LIBRARIES)]


def _digest(content: list[Any]) -> str:
    return hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()


# -- figures of labs ----------------------------------------------------------------------------------
def texts_of(figures: list[Figure]) -> list[list[str | None]]:
    return [[one.name, one.alt, one.caption, one.file] for one in figures]


def figures_of(texts: list[list[Any]]) -> list[Figure]:
    """The figures of a lab whose files are staged already: their texts, no images."""
    return [Figure(name, alt, caption, b"", file) for name, alt, caption, file in texts]


# -- files --------------------------------------------------------------------------------------------
def settle(fresh: Path, source: Path, kept: set[str]) -> None:
    """Make `source` hold what `fresh` holds, besides the places in `kept`, which stay as they are.

    A file of the same bytes keeps its times, by which Sphinx tells what to read again. `fresh` is used up.
    """
    source.mkdir(parents=True, exist_ok=True)
    made = {path.relative_to(fresh).as_posix() for path in fresh.rglob("*") if path.is_file()}
    for path in sorted(source.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.relative_to(source).as_posix() not in made | kept:
            path.unlink()
    for place in sorted(made - kept):
        old, new = source / place, fresh / place
        if not (old.is_file() and not old.is_symlink() and old.read_bytes() == new.read_bytes()):
            old.parent.mkdir(parents=True, exist_ok=True)
            new.replace(old)
    shutil.rmtree(fresh)
