"""Running the study and printing its book as a user does: as processes of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def python(module: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
    """`python -m MODULE ARGUMENTS...`, in the repository's folder."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def study(*arguments: str, check: bool = True) -> subprocess.CompletedProcess:
    """`memgen ARGUMENTS...`."""
    return python("memgen.pipeline.cli", *arguments, check=check)


#: the study that tests read, as the commands of both programs name it
SMOKE = ("--seeds", "0", "--tracks", "scratch", "lora")


def smoke_labs(runs: Path) -> subprocess.CompletedProcess:
    """`memgen labs` of the smoke study: five tasks, one seed, from scratch and with adapters."""
    return study("labs", "--preset", "smoke", *SMOKE, "--runs", str(runs))


def smoke_book(runs: Path) -> subprocess.CompletedProcess:
    """`press book` of that study, in `<runs>/_build`."""
    out = str(runs / "_build")
    return python("press.cli", "book", "--runs", str(runs / "smoke"), "--out", out, *SMOKE)
