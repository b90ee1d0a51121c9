"""The jobs that one study has in a Slurm: find them by their names, and cancel them.

    python slurm_jobs.py NAME       cancel every job whose name begins with NAME; what a keeper runs last

Slurm works on when who submitted has gone, so each run cancels what it leaves, and what an earlier one
left. Run by path and of the standard library alone, as the keeper is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

#: the commands that a study needs where it is started
COMMANDS = ("sbatch", "squeue", "scancel", "sinfo", "scontrol")
#: jobs that have not ended
ALIVE = "PENDING,CONFIGURING,RUNNING,SUSPENDED,STOPPED,REQUEUED,REQUEUE_HOLD,COMPLETING"
#: seconds that Slurm gets for one answer
_PATIENCE = 30.0


def ask(*command: str) -> str | None:
    """What a command of Slurm's prints; None if it fails, or does not answer."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def alive(name: str) -> list[str]:
    """The numbers of this user's jobs that have not ended and whose names begin with `name`."""
    said = ask("squeue", "-h", "-u", str(os.getuid()), "-t", ALIVE, "-o", "%i %j") or ""
    words = [line.split(" ", 1) for line in said.splitlines()]
    return [number for number, called in words if called.startswith(name)]


def cancel(name: str, seconds: float) -> list[str]:
    """Cancel them and wait this long for their end; returns those that have not ended."""
    until = time.monotonic() + seconds
    if left := alive(name):
        ask("scancel", *left)
    while left and time.monotonic() < until:
        time.sleep(0.5)
        left = alive(name)
    return left


def state(number: str) -> str:
    """What became of a job, as a part of a sentence: `Slurm's job 7 is CANCELLED (node2)`."""
    said = ask("squeue", "-h", "-t", "all", "-j", number, "-o", "%T (%N)")
    words = (said or "").strip().splitlines()
    return f"Slurm's job {number} is {words[0] if words else 'not known any more'}".replace(
        " ()", ""
    )


if __name__ == "__main__":
    cancel(sys.argv[1], 0)
