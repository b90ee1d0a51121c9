"""What editors and tools leave beside a file, planted."""

from __future__ import annotations

from pathlib import Path


def plant_strays(folder: Path, name: str) -> None:
    """Beside the file `name`: locks, a draft, backups, a checkpoint, and a link that leads nowhere."""
    stem, _, suffix = name.rpartition(".")
    for stray in (f"{name}~", f"#{name}#", f"{name}.orig", f".{name}.swp", f".~{name}"):
        (folder / stray).write_bytes(b"\xff( {{ half a")
    (folder / f".#{name}").symlink_to("reader@laptop.4711:1700000000")
    (folder / f"dangling.{suffix}").symlink_to("nowhere")
    (folder / ".ipynb_checkpoints").mkdir(exist_ok=True)
    (folder / ".ipynb_checkpoints" / f"{stem}-checkpoint.{suffix}").write_bytes(b"\xff( {{ half a")
