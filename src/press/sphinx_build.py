"""Sphinx, run as Jupyter Book runs it: strict, with its chatter turned into a few lines."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

from memgen.store.files import sha256
from press.errors import BookError
from press.kept_build import WRITTEN, Kept
from press.numbers import seconds
from press.trim import trim

TOOLS = (
    "jupyter-book",
    "sphinx",
    "docutils",
    "pygments",
    "myst-parser",
    "myst-nb",
    "sphinx-design",
    "sphinx-external-toc",
    "sphinx-book-theme",
    "pydata-sphinx-theme",
    "sphinxcontrib-bibtex",
)
OURS = "kept_pages"  # an extension of Sphinx, which is loaded with it
ANSI = re.compile(r"\x1b\[[0-9;]*m")  # Sphinx colours what it says


def tools(source: Path) -> str:
    """What turns `source` into pages: libraries, this code, its place."""
    named = [f"{tool} {version(tool)}" for tool in TOOLS]
    own = [sha256(Path(__file__).with_name(f"{one}.py")) for one in ("sphinx_build", OURS, "trim")]
    return " ".join([sys.version, *named, *own, str(source.resolve())])


def digest(staged: dict[str, str]) -> str:
    """sha256 over every staged file and the tools that turn them into pages."""
    total = hashlib.sha256(" ".join(f"{tool} {version(tool)}" for tool in TOOLS).encode())
    for name, content in sorted(staged.items()):
        total.update(f"{name} {content}\n".encode())
    return total.hexdigest()


def sphinx(source: Path, html: Path, doctrees: Path, kept: Kept | None = None) -> list[str]:
    """Build `source` as `jupyter-book build -W -n --keep-going` does, with one process a core.

    With `kept`, pages that show nothing new are that build's; returns those that were written. `doctrees`:
    where Sphinx keeps what it has read, a folder that is begun anew. Raises :class:`BookError` for a warning.
    """
    shutil.rmtree(doctrees, ignore_errors=True)
    if kept:
        shutil.copytree(kept.doctrees, doctrees)
    progress, warnings = Progress(), Warnings()
    with redirect_stdout(progress), redirect_stderr(warnings):
        failed = _built(source.resolve(), html.resolve(), doctrees.resolve(), kept)
    if failed:
        listed = "\n".join(f"  {line}" for line in warnings.lines()) or f"  {failed!r}"
        raise BookError(f"Sphinx warned or failed, so the book was not replaced:\n{listed}")
    trim(html)
    if kept:
        _take_over(kept.html, html)
    return json.loads((doctrees / WRITTEN).read_text(encoding="utf8"))["written"]


def _built(source: Path, html: Path, doctrees: Path, kept: Kept | None) -> int | Exception:
    """Jupyter Book's `build_sphinx`, with a builder of our own; returns 0 or what went wrong."""
    from jupyter_book.config import get_final_config
    from sphinx.application import Sphinx
    from sphinx.cmd.build import handle_exception
    from sphinx.util.docutils import docutils_namespace, patch_docutils

    given = {"nitpicky": True, "latex_individualpages": False}
    config, _ = get_final_config(
        user_yaml=source / "_config.yml", cli_config=given, sourcedir=source
    )
    config["extensions"] = [*config["extensions"], f"press.{OURS}"]
    config["kept_book"] = str(kept.html.resolve()) if kept else ""
    config["kept_changed"] = kept.changed if kept else []
    app = None
    try:
        with patch_docutils(None), docutils_namespace():
            app = Sphinx(
                *(source, None, html, doctrees, "html", config, sys.stdout, sys.stderr),
                freshenv=kept is None,
                warningiserror=True,
                keep_going=True,
                parallel=min(os.cpu_count() or 1, 8),
            )
            app.build()
            return app.statuscode
    except Exception as error:  # whatever an extension raises
        quiet = SimpleNamespace(pdb=False, verbosity=0, traceback=False)
        handle_exception(app, quiet, error, sys.stderr)
        return error


def _take_over(former: Path, html: Path) -> None:
    """The pages that were not written, from a former book."""
    for page in former.rglob("*.html"):
        target = html / page.relative_to(former)
        if "_static" not in page.parts and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(page, target)


class Warnings:
    """A stream that keeps what Sphinx says against a page, once each."""

    def __init__(self):
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return False

    def lines(self) -> list[str]:
        return list(
            dict.fromkeys(
                line.strip() for line in ANSI.sub("", self.text).splitlines() if line.strip()
            )
        )


class Progress(Warnings):
    """A stream that turns Sphinx's chatter into a few lines: which step, how far, how long."""

    STEPS = {"reading sources": "reading", "writing output": "writing"}

    def __init__(self):
        super().__init__()
        self.out, self.started, self.step, self.shown = sys.stdout, time.monotonic(), "", 0

    def write(self, text: str) -> int:
        text = ANSI.sub("", text)
        for step, verb in self.STEPS.items():
            if f"{step}... [" in text:
                if step != self.step:
                    self.step, self.shown, self.started = step, 0, time.monotonic()
                share = int(text.split("[")[1].split("%")[0])
                if share >= self.shown + 25 and share < 100:
                    self.shown, spent = share, time.monotonic() - self.started
                    left = (
                        f", about {seconds(spent * (100 - share) / share)} left"
                        if spent > 1
                        else ""
                    )
                    self.out.write(f"book: {verb} pages, {share} % ({seconds(spent)}{left})\n")
                    self.out.flush()
        return len(text)
