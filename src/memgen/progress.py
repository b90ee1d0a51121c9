"""Progress as plain text: what is being done, how far it is, how long is left."""

from __future__ import annotations

import sys
import time


def duration(seconds: float) -> str:
    """'42 s', '3 min 05 s', '1 h 02 min'."""
    seconds = int(round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"


class Progress:
    """Prints a line at most every `every` seconds; `total` steps are expected at most."""

    def __init__(self, what: str, total: int, every: float = 10.0, start: int = 0):
        self.what, self.total, self.every = what, total, every
        self.first, self.began, self.last = start, time.monotonic(), 0.0

    def step(self, done: int, note: str = "") -> None:
        now = time.monotonic()
        if now - self.last < self.every and done < self.total:
            return
        self.last = now
        rate = (done - self.first) / max(1e-9, now - self.began)
        left = (
            f", at most {duration((self.total - done) / rate)} left"
            if rate > 0 and done < self.total
            else ""
        )
        print(
            f"{self.what}: {done}/{self.total} ({rate:.1f}/s{left}){'  ' + note if note else ''}",
            flush=True,
        )
        sys.stdout.flush()
