"""Snakemake's events, one line per finished lab: how far, and how long is left.

The Snakefile adds the handler to Snakemake's logger: `snakemake` and `memgen labs` say the same.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import Counter
from pathlib import Path, PurePath
from typing import Any

from memgen.config.base import ROOT
from memgen.pipeline.keeper import KEPT, KILLED
from memgen.progress import duration
from memgen.stages import BASE_SECONDS, LABS
from memgen.store.files import disk_full, is_full
from memgen.store.left_out import reason_of
from memgen.terms import TRACKS

#: rough seconds per job of a rule, used for the time left until jobs of that rule have been timed here
EXPECTED_SECONDS = {"base": BASE_SECONDS, "shared_base": BASE_SECONDS}
EXPECTED_SECONDS |= {row.short: row.seconds for row in LABS.values()}
EXPECTED_SECONDS["retraining"] = EXPECTED_SECONDS["training"]
#: what stands in a log before the one sentence that says why its job failed
FAILED = "\nfailed: "
#: the file in the study's folder that holds these sentences
FAILURES = "failures.txt"
#: what Snakemake says when a signal has told it to end; it then waits for the labs that run
ENDING = ("Will exit after finishing currently running jobs", "Terminating processes on user")


class Report(logging.Handler):
    """`home`: the study's folder."""

    def __init__(self, home: Path):
        super().__init__()
        self.home, self.began, self.done, self.cores = home, time.monotonic(), 0, 1
        self.left: Counter[str] = Counter()  # jobs that have not ended, by rule
        self.seconds: dict[str, list[float]] = {}  # of those that have, by rule
        self.said: set[str] = set()  # why labs were left out
        self.running: dict[int, tuple[str, str, float]] = {}  # rule, stamp, when it began

    def emit(self, record: Any) -> None:
        """Take one record of Snakemake's, which carries what its event is about."""
        event = getattr(record, "event", None)
        if event == "resources_info":
            self.cores = getattr(record, "cores", self.cores)
        elif event == "run_info" and not self.left:
            self.left = Counter(record.stats) - Counter(all=1, total=record.stats["total"])
            print(
                f"labs: {self.left.total()} to run, {self.cores} side by side; text of each in"
                f" {relative_to_root(self.home)}/<task>/<run>/<lab>.log",
                flush=True,
            )
        elif event == "job_info" and record.output:  # the rule `all` has none
            self.running[record.jobid] = (record.rule_name, record.output[0], time.monotonic())
        elif event == "job_finished":
            self._ended(record.job_id, self._outcome(record.job_id))
        elif event == "job_error":
            self._ended(record.jobid, "FAILED")
            self._failed(record.output[0])
        elif str(record.msg).startswith("Nothing to be done"):
            print("labs: nothing to run, all are up to date", flush=True)
        elif str(record.msg).startswith(ENDING):
            _end()

    def _outcome(self, job: int) -> str:
        stamp = self.running[job][1] if job in self.running else ""
        why = reason_of((self.home / stamp).with_suffix("")) if stamp else None
        if not why:
            return "done in {}"
        known, self.said = why in self.said, {*self.said, why}
        braces = str.maketrans({"{": "{{", "}": "}}"})  # what is said is formatted with the time
        return "left out, too" if known else f"left out: {why.translate(braces)}"

    def _ended(self, job: int, state: str) -> None:
        if job not in self.running:
            return
        rule, stamp, began = self.running.pop(job)
        self.done, total = self.done + 1, self.done + self.left.total()
        self.left -= Counter([rule])
        took = time.monotonic() - began
        self.seconds.setdefault(rule, []).append(took)
        left = f", about {duration(time_left(self.left, self.seconds, self.cores))} left"
        print(
            f"[{self.done}/{total}] {'  '.join(named(stamp))}  {state.format(duration(took))}"
            f"  ({duration(time.monotonic() - self.began)} so far{left if self.left else ''})",
            flush=True,
        )

    def _failed(self, stamp: str) -> None:
        log = (self.home / stamp).with_suffix(".log")
        text = log.read_text(errors="replace") if log.is_file() else ""
        killed = FAILED not in text
        if killed and is_full(self.home):  # then nobody could write why, and this cannot either
            message, killed = disk_full(log.parent), False
        elif killed:
            message = "ended from outside, by a signal or as memory ran out"
        else:
            message = text.rpartition(FAILED)[2].strip()
        with contextlib.suppress(OSError), open(self.home / FAILURES, "a") as file:
            file.write(f"{', '.join(named(stamp))}: {message} (log: {relative_to_root(log)})\n")
        if killed:
            _end()


def _end() -> None:
    """End Snakemake at once where a keeper ends what it leaves; it would wait for labs of minutes."""
    if KEPT in os.environ:
        os._exit(KILLED)


def named(stamp: str) -> list[str]:
    """The words for a job: stage, task, run, and the track if it is not the one from scratch."""
    *track, task, run, name = PurePath(stamp).with_suffix("").parts
    return [name, task, run, *(one for one in track if one in TRACKS)]


def time_left(pending: dict[str, int], seconds: dict[str, list[float]], cores: int) -> float:
    """By what was timed; rules that were not take as much more than expected as those that were."""
    mean = {rule: sum(s) / len(s) for rule, s in seconds.items()}
    scale = sum(mean.values()) / sum(EXPECTED_SECONDS[rule] for rule in mean)
    expected = {rule: mean.get(rule, EXPECTED_SECONDS[rule] * scale) for rule in pending}
    return sum(n * expected[rule] for rule, n in pending.items()) / cores


def relative_to_root(path: Path) -> str:
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)
