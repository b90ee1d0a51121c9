"""What was seen when the study ran in a Slurm: committed with the code, since it takes a machine with one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from memgen.store.files import read_json


def cluster_trial(root: Path) -> dict[str, Any]:
    """The outcome of `make cluster`, counted; empty where it was not made. `root`: the repository."""
    path = root / "tests" / "cluster" / "outcome.json"
    if not path.is_file():
        return {}
    found = dict(read_json(path))
    return found | {f"n_{name}": len(found[name]) for name in ("nodes", "different")}
