"""What a study goes on without: labs whose question cannot be asked of a run.

Such a run is a result: its model did not show both behaviours, or no two prompts of it make a pair.
The lab's stamp says why, Snakemake takes it for done, and whatever spans the runs leaves the run out.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from memgen.stages import LABS, LATER
from memgen.store.folders import stamp_beside

MARK = "left out: "


def reason_of(folder: Path) -> str | None:
    """Why the lab that would have written to this folder was left out; None if it was not."""
    stamp = stamp_beside(folder)
    said = stamp.read_text() if stamp.is_file() else ""
    return said.removeprefix(MARK).strip() if said.startswith(MARK) else None


def reason_in(run: Path) -> str | None:
    """Why a run is incomplete: the reason of the first of its labs that was left out."""
    reasons = (reason_of(run / name) for name, row in LABS.items() if row.level == "run")
    return next(filter(None, reasons), None)


def there(folders: Iterable[Path]) -> list[Path]:
    """Those of labs that were not left out, nor came later than their study (`LATER`)."""
    missing = {f for f in folders if f.name in LATER and not f.exists()}
    return [f for f in folders if f not in missing and reason_of(f) is None]
