"""What was seen when the study ran in a Slurm: committed with the code, since it takes a machine with one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from memgen.store.files import read_json


def cluster_trial(root: Path) -> dict[str, Any]:
    """The outcome of `make cluster`; empty where it was not made. `root`: the repository."""
    path = root / "tests" / "cluster" / "outcome.json"
    return dict(read_json(path)) if path.is_file() else {}
