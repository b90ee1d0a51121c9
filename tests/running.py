"""Running the study as a user does: as a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def study(*arguments: str, check: bool = True) -> subprocess.CompletedProcess:
    """`python -m memgen.study ...` as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "memgen.study", *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done
