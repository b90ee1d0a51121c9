"""Let the disk of a small study become full at random moments, and see that nothing is lost (`make torture`).

The study and its temporary files lie on a disk of memory (tmpfs), which only this process and its
children see. At a moment drawn from a seed all that is free on it is taken, and stays taken until the study
has ended. Then: every line that it left on standard error says that the disk is full, and where; no
process and no temporary folder is left, and every stage that was finished is there, unchanged. Space is
made, and the same command goes on; a study that gets to its end has the undisturbed run's numbers to the
last bit. What was found: `outcome.json` beside this file; what the studies said: `_build/torture/full.log`.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from torture.kill import Disturb, Study, campaign, end, given, holds, record, workplace  # noqa: E402

MEBIBYTES = 48
#: set where this process has its own view of the mounted disks
INSIDE = "TORTURE_INSIDE"
#: seconds in which a study whose disk is full has to have ended
PATIENCE = 900


class Disk:
    """A small disk of memory at `folder`, as long as the context lasts; a file on it takes what is free."""

    def __init__(self, folder: Path):
        self.folder, self.filler = folder, folder / "filler"

    def __enter__(self) -> Disk:
        self.folder.mkdir()
        size = f"size={MEBIBYTES}m"
        subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(self.folder)], check=True)
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)

    def fill(self) -> None:
        """Take all that is free now."""
        with contextlib.suppress(OSError), open(self.filler, "ab", buffering=0) as file:
            while file.write(b"0" * 4096):
                pass

    def empty(self) -> None:
        self.filler.unlink(missing_ok=True)


def fill(study: Study, disk: Disk, moment: float) -> dict | None:
    """Start the study, fill its disk at a moment; what was seen. None: it had finished by then."""
    said = disk.folder.with_name("said")  # on another disk
    with open(said, "w") as errors:
        process = study.start(errors)
    began = time.monotonic()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(moment)
    before = study.finished()
    while process.poll() is None and time.monotonic() - began < moment + PATIENCE:
        disk.fill()
        time.sleep(0.02)
    ended = round(time.monotonic() - began - moment, 1)
    left = study.processes()
    end([process.pid] if process.poll() is None else [])
    end(left)
    process.wait()
    disk.empty()
    lines = [line for line in said.read_text().splitlines() if line]
    study.log.write("".join(f"{line}\n" for line in lines))
    if process.returncode == 0:
        return None
    return {
        "after_seconds": round(moment, 2),
        "status": process.returncode,
        "ended_after_seconds": ended,
        "said": lines,
        "told": bool(lines) and all("the disk is full" in line for line in lines),
        "orphans": len(left),
        "left": study.left(),
        "finished": len(before),
        "lost": study.lost(before),
    }


def counted(rows: list[dict]) -> dict:
    """What the outcome of the full disks says of them besides."""
    return {"full": len(rows), "told": sum(row["told"] for row in rows)}


def main() -> int:
    if INSIDE not in os.environ:
        os.environ[INSIDE] = "1"
        own = ["unshare", "--mount", *(["--map-root-user"] if os.getuid() else [])]
        os.execvp(own[0], [*own, sys.executable, __file__, *sys.argv[1:]])
    arguments = given(__doc__.splitlines()[0], 10)

    @contextlib.contextmanager
    def study_in(folder: Path) -> Iterator[tuple[Study, Disturb]]:
        with Disk(folder) as disk:
            study = Study(folder / "study", arguments.study, log)
            yield study, lambda draw, within: fill(study, disk, draw.uniform(0, within))

    with workplace("full") as (work, log):
        outcome = campaign(arguments, work, log, study_in, counted)
    record(arguments.out, "full", outcome)
    good = holds(outcome) and outcome["told"] == outcome["full"]
    print(f"{outcome['full']} times full: {'nothing lost' if good else 'see'} {arguments.out}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
