"""A copy of the repository in a folder of its own, with `make` and an environment planted in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from running import ROOT

COPIED = ("src", "notebooks", "Makefile", "Snakefile", "pyproject.toml")
#: what a name of a folder may hold
AWKWARD = 'o\'er "{the}" [ünï] & $more; *'
#: what an outer `make test` says to every `make` that it starts
MAKE = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "PYTHONPATH")


def checkout(folder: Path) -> Path:
    """What `make` and the study need of the repository, copied to `folder`; nothing is installed."""
    for name in COPIED:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, target)
    for requirements in ROOT.glob("requirements*.txt"):
        (folder / requirements.name).write_text("")
    return folder


def plant_python(house: Path, does: str) -> None:
    """An environment that counts as ready; its `python` is a shell script that `does` this."""
    python = house / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{does}\n")
    python.chmod(0o755)
    (house / ".venv" / ".ready").touch()


def real_python(house: Path) -> None:
    """An environment that counts as ready, with all that the tests run with."""
    plant_python(house, f'exec "{sys.executable}" "$@"')


def make(
    house: Path,
    *arguments: str,
    preexec_fn: Callable[[], None] | None = None,
    **environment: str,
) -> subprocess.CompletedProcess:
    """`make ARGUMENTS...` in a checkout, as a shell with these exported variables runs it."""
    inherited = {name: value for name, value in os.environ.items() if name not in MAKE}
    return subprocess.run(
        ["make", f"PYTHON={sys.executable}", *arguments],
        cwd=house,
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=240,
        preexec_fn=preexec_fn,
    )
