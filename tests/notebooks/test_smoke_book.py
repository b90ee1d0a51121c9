"""The book of the smoke run: built without a warning, every link and figure checked, opened in a browser."""

from __future__ import annotations

import os
import subprocess
import sys

from running import ROOT


def test_book_of_the_smoke_run(smoke):
    """The checks of tests/book, on this book."""
    html = smoke / "_build" / "html"
    assert (html / "index.html").is_file()
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "tests/book/test_built_book.py", "-p", "no:cacheprovider"], cwd=ROOT,
                          env={**os.environ, "MEMGEN_BOOK": str(html)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:]
