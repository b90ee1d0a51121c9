"""The repository's own files, without what editors and tools leave beside them."""

from __future__ import annotations

import re
from pathlib import Path

#: hidden files and folders (an editor's lock, `.ipynb_checkpoints`), backups, drafts, compiled code
STRAY = re.compile(r"\..*|.*~|#.*#|.*\.(bak|orig|rej|swp|tmp|pyc)|__pycache__")


def own_files(folder: Path, pattern: str) -> list[Path]:
    """The files below `folder` that match a pattern of `Path.glob`, sorted; no stray ones."""
    return sorted(
        path
        for path in folder.glob(pattern)
        if path.is_file() and not any(map(STRAY.fullmatch, path.relative_to(folder).parts))
    )


def strays(folder: str, names: list[str]) -> list[str]:
    """The names in a folder that are stray or lead nowhere: what `shutil.copytree` shall ignore."""
    return [name for name in names if STRAY.fullmatch(name) or not Path(folder, name).exists()]
