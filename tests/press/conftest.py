"""Books to look at: the smoke study's (or the one that `MEMGEN_BOOK` names), and small made-up runs
that a test may damage.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the modules beside this file
ROOT = Path(__file__).resolve().parents[2]

from fake_run import executed_lab, make_run  # noqa: E402


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
    """A copy of the sources of the book that a test may damage."""
    root = tmp_path / "root"
    shutil.copytree(ROOT / "book", root / "book")
    shutil.copytree(ROOT / "data" / "reference", root / "data" / "reference")
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(ROOT / name, root / name)
    return root


@pytest.fixture(scope="session")
def built_book(request) -> Path:
    """The HTML folder of a book: the one that `MEMGEN_BOOK` names, or that of the smoke study."""
    if os.environ.get("MEMGEN_BOOK"):
        html = Path(os.environ["MEMGEN_BOOK"]).resolve()
        assert (html / "index.html").is_file(), f"MEMGEN_BOOK={html} holds no index.html"
        return html
    return request.getfixturevalue("smoke") / "_build" / "html"
