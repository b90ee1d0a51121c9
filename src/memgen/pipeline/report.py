"""Snakemake's events, one line per finished lab: how far, and how long is left.

The Snakefile adds the handler to Snakemake's logger: `snakemake` and `memgen labs` say the same. On a
cluster several labs may be one job, which ends as a whole: their logs tell which of them did.
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
from memgen.pipeline.slurm_jobs import state
from memgen.progress import duration
from memgen.stages import BASE_SECONDS, LABS
from memgen.store.files import disk_full, is_full
from memgen.store.left_out import reason_of
from memgen.terms import TRACKS

#: rough seconds per job of a rule, used for the time left until jobs of that rule have been timed here
EXPECTED_SECONDS = {"base": BASE_SECONDS, "shared_base": BASE_SECONDS}
EXPECTED_SECONDS |= {row.short: row.seconds for row in LABS.values()}
EXPECTED_SECONDS["retraining"] = EXPECTED_SECONDS["training"]
#: what stands in a log before the one sentence that says why its job failed, and in that of one that did not
FAILED, FINISHED = "\nfailed: ", "\nfinished"
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
        self.told: set[int] = set()  # jobs of a group that has failed as a whole
        self.slots = 0  # jobs that a cluster may have at once; 0: labs run here

    def emit(self, record: Any) -> None:
        """Take one record of Snakemake's, which carries what its event is about."""
        event = getattr(record, "event", None)
        if event == "resources_info":
            self.cores = getattr(record, "cores", self.cores)
            self.slots = getattr(record, "nodes", None) or self.slots
        elif event == "run_info" and not self.left:
            self.left = Counter(record.stats) - Counter(all=1, total=record.stats["total"])
            where = f"at most {self.slots} jobs on the cluster" if self.slots else ""
            print(
                f"labs: {self.left.total()} to run, {where or f'{self.cores} side by side'}; text of"
                f" each in {relative_to_root(self.home)}/<task>/<run>/<lab>.log",
                flush=True,
            )
        elif event == "job_info" and record.output:  # the rule `all` has none
            self.running[record.jobid] = (record.rule_name, record.output[0], time.monotonic())
            if self.slots:  # a log that is there in the end is of this run
                self._log(record.output[0]).unlink(missing_ok=True)
        elif event == "job_finished":
            self._ended(record.job_id, self._outcome(record.job_id))
        elif event == "group_error":
            self._group_failed(record)
        elif event == "job_error" and record.jobid not in self.told:
            self._ended(record.jobid, "FAILED")
            number = (getattr(record, "aux", None) or {}).get("external_jobid")
            self._failed(record.output[0], number)
        elif str(record.msg).startswith("Nothing to be done"):
            print("labs: nothing to run, all are up to date", flush=True)
        elif str(record.msg).startswith(ENDING):
            _end()

    def _outcome(self, job: int) -> str:
        stamp = self.running[job][1] if job in self.running else ""
        why = reason_of((self.home / stamp).with_suffix("")) if stamp else None
        if not why:
            return "done" if self.slots else "done in {}"  # in a group the jobs' times are unknown
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
        left = ""
        if self.left and not self.slots:  # nobody knows how long a cluster lets jobs wait
            left = f", about {duration(time_left(self.left, self.seconds, self.cores))} left"
        print(
            f"[{self.done}/{total}] {'  '.join(named(stamp))}  {state.format(duration(took))}"
            f"  ({duration(time.monotonic() - self.began)} so far{left})",
            flush=True,
        )

    def _log(self, stamp: str) -> Path:
        return (self.home / stamp).with_suffix(".log")

    def _text(self, stamp: str) -> str:
        log = self._log(stamp)
        return log.read_text(errors="replace") if log.is_file() else ""

    def _group_failed(self, record: Any) -> None:
        """Say which labs of a job of several did not end well; Snakemake takes them all for failed."""
        number, began = getattr(record, "external_jobid", None), []
        for info in record.job_error_info:
            stamp = info["output"][0]
            finished = self._text(stamp).endswith(f"{FINISHED}\n")
            if self._log(stamp).is_file() and not finished:
                began.append(stamp)
            self.told.add(info["jobid"])
            self._ended(info["jobid"], "done" if finished else "FAILED" if stamp in began else "-")
        for stamp in began or [info["output"][0] for info in record.job_error_info][:1]:
            self._failed(stamp, number)

    def _failed(self, stamp: str, slurm_job: str | None = None) -> None:
        """Note why a lab failed. One that was killed here ends the study; on a cluster others go on."""
        log, text = self._log(stamp), self._text(stamp)
        killed = FAILED not in text
        if killed and is_full(self.home):  # then nobody could write why, and this cannot either
            message, killed = disk_full(log.parent), False
        elif killed and slurm_job:
            message = f"ended from outside: {state(slurm_job)}"
        elif killed:
            message = "ended from outside, by a signal or as memory ran out"
        else:
            message = text.rpartition(FAILED)[2].strip()
        with contextlib.suppress(OSError), open(self.home / FAILURES, "a") as file:
            file.write(f"{', '.join(named(stamp))}: {message} (log: {relative_to_root(log)})\n")
        if killed and not self.slots:
            _end()


class EndAtOnce(logging.Handler):
    """On a machine of a cluster: the Snakemake of a job that is told to end does so.

    It would wait for its labs, which Slurm ends beside it, and at times for ever.
    """

    def emit(self, record: Any) -> None:
        """Take one record; the process ends if it says that Snakemake was told to."""
        if str(record.msg).startswith(ENDING):
            os._exit(KILLED)


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
