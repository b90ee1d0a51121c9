"""Books to look at: the smoke study's (or the one that `MEMGEN_BOOK` names), and small made-up runs
that a test may damage.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from fake_run import executed_lab, make_run

from memgen.config.base import ROOT
from press import prose
from press.origin import bare
from press.run import Run

#: in data/reference: the scale sweep, the whole board, the pretrained models
LONG_TO_DRAW = ("scale/*", "rivals/results.csv", "real/*.json")


@pytest.fixture(scope="session")
def notebook(tmp_path_factory) -> dict:
    """A minimal lab, executed by papermill."""
    return executed_lab(tmp_path_factory.mktemp("lab"))


@pytest.fixture
def run(tmp_path, notebook) -> Path:
    """A fresh run of one task and one seed that a test may damage."""
    return make_run(tmp_path / "runs", ["inference"], [0], notebook)


@pytest.fixture
def root(tmp_path) -> Path:
    """A copy of the sources of the book that a test may damage; without what takes long to draw and is
    tested elsewhere (slides, and what is drawn from `LONG_TO_DRAW`).
    """
    root = tmp_path / "root"
    for folder in ("book", "data/reference", "notebooks/exercises"):
        shutil.copytree(ROOT / folder, root / folder)
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(ROOT / name, root / name)
    for name in LONG_TO_DRAW:
        for path in (root / "data" / "reference").glob(name):
            path.unlink()
    teach = root / "book" / "teach.md"
    teach.write_text(teach.read_text().replace("{{ slides() }}", ""))
    return root


@pytest.fixture(scope="session")
def built_book(request) -> Path:
    """The HTML folder of a book: the one that `MEMGEN_BOOK` names, or that of the smoke study."""
    if os.environ.get("MEMGEN_BOOK"):
        html = Path(os.environ["MEMGEN_BOOK"]).resolve()
        assert (html / "index.html").is_file(), f"MEMGEN_BOOK={html} holds no index.html"
        return html
    return request.getfixturevalue("smoke") / "_build" / "html"


@pytest.fixture
def rendered(tmp_path, monkeypatch):
    """`rendered(run folder, *tracks)`: all pages of a made-up run without figures, by name, without
    the origins of their numbers (`write=str`: with them). `only`: these pages alone, in a tenth of the time.
    `root`: whose committed results they show.
    """
    monkeypatch.setattr(prose, "lab_figure", lambda *_: "FIGURE")
    monkeypatch.setattr(prose.slides, "write", lambda *_: [])
    monkeypatch.setattr(prose.slides, "listing", lambda *_: "SLIDES")

    def render(folder, *tracks, only=None, write=bare, root=ROOT) -> dict[str, str]:
        source = tmp_path / "source"
        shutil.copytree(ROOT / "book", source)
        (source / "figures").mkdir()
        pages = only or {path.relative_to(source).as_posix() for path in source.rglob("*.md")}
        prose.render(Run(folder, tracks=tracks or ("scratch",)), {}, root, source, pages)
        return {page: write((source / page).read_text(encoding="utf8")) for page in sorted(pages)}

    return render
