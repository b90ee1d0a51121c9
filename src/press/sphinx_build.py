"""Sphinx, run as Jupyter Book runs it: strict, with its chatter turned into a few lines."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from importlib.metadata import version
from pathlib import Path

from press.errors import BookError
from press.numbers import seconds

TOOLS = (
    "jupyter-book",
    "sphinx",
    "myst-nb",
    "sphinx-book-theme",
    "pydata-sphinx-theme",
    "sphinxcontrib-bibtex",
)
ANSI = re.compile(r"\x1b\[[0-9;]*m")  # Sphinx colours what it says


def digest(source: Path) -> str:
    """sha256 over every staged file and the tools that turn them into pages."""
    total = hashlib.sha256(" ".join(f"{tool} {version(tool)}" for tool in TOOLS).encode())
    for path in sorted(p for p in source.rglob("*") if p.is_file()):
        total.update(path.relative_to(source).as_posix().encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def sphinx(source: Path, html: Path, doctrees: Path) -> None:
    """Build `source` as `jupyter-book build -W -n --keep-going` does, with one process a core."""
    from jupyter_book.sphinx import build_sphinx

    progress, warnings = Progress(), Warnings()
    with redirect_stdout(progress), redirect_stderr(warnings):
        status = build_sphinx(
            source.resolve(),
            html.resolve(),
            path_config=(source / "_config.yml").resolve(),
            doctreedir=doctrees.resolve(),
            noconfig=True,
            confoverrides={"nitpicky": True, "latex_individualpages": False},
            builder="html",
            freshenv=True,
            warningiserror=True,
            keep_going=True,
            jobs=min(os.cpu_count() or 1, 8),
        )
    if status != 0:
        listed = "\n".join(f"  {line}" for line in warnings.lines()) or f"  {status!r}"
        raise BookError(f"Sphinx warned or failed, so the book was not replaced:\n{listed}")


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
