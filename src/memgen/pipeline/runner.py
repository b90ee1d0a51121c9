"""The whole study as one command: check the parameters, run the labs that need it, build the book.

    python -m memgen.study book --preset laptop --tasks inference --seeds 0 1 --set n_embd=64
    python -m memgen.study labs ...    the labs without the book

Snakemake decides what has to run; this module tells it what there is, shows how far it is, and
repeats a failing lab's own message instead of a traceback. `lab` and `base` run one job of the plan
in the environment variable MEMGEN_PLAN; Snakemake calls them.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from memgen.config.base import ROOT
from memgen.errors import ArtifactError, StudyError
from memgen.pipeline import warm
from memgen.pipeline.plan import FORK, Job, Plan
from memgen.progress import duration
from memgen.stages import BASE, BASE_SECONDS, LABS
from memgen.store.files import guard_disk
from memgen.store.folders import study_folder

#: rough seconds a lab takes, used for the time left until labs of that kind have been timed here
EXPECTED_SECONDS = {BASE: BASE_SECONDS} | {name: row.seconds for name, row in LABS.items()}


def run_labs(plan: Plan, jobs: int) -> None:
    """Run what has to run, `jobs` labs side by side. Raises `StudyError` with the failing lab's
    message.
    """
    home = study_folder(plan.runs, plan.preset)
    with guard_disk(home):
        home.mkdir(parents=True, exist_ok=True)
    lock = open(home / ".study.lock", "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise ArtifactError(
            f"another run is working in {home}; wait for it, stop it, or choose another folder with"
            " RUNS=..."
        ) from None
    base = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        str(ROOT / "Snakefile"),
        "--directory",
        str(ROOT),
        "--cores",
        str(jobs),
        "--rerun-incomplete",
        "--keep-going",
        "--nocolor",
        # every finished job leaves a timer that asks again what can run, once in this time span
        # (default 1 s): 200 jobs would keep a sixth of a core busy
        "--max-jobs-per-timespan",
        "1000/3s",
    ]
    # the plan travels in the environment, not in the commands: a lab's command must not change with
    # what else is planned
    os.environ["MEMGEN_PLAN"] = plan.to_json()
    if any((ROOT / ".snakemake" / "locks").glob("*")):
        subprocess.run(
            [*base, "--unlock"], capture_output=True
        )  # ours is the only run (see the lock above), so a lock left behind is stale
    total = _pending(base)
    if not total:
        print("labs: nothing to run, all are up to date", flush=True)
        return
    print(
        f"labs: {total} to run, {jobs} side by side; text of each in"
        f" {relative_to_root(home)}/<task>/<run>/<lab>.log",
        flush=True,
    )
    events = home / "events.jsonl"
    events.unlink(missing_ok=True)
    with open(home / "snakemake.log", "w") as log, warm_server(home / "warm.log") as server:
        process = subprocess.Popen(
            base,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **server, "MEMGEN_EVENTS": str(events)},
            pass_fds=(lock.fileno(),),
        )  # if this process is killed, the lock lives on with Snakemake
        watcher = threading.Thread(target=_report, args=(process, events, total, jobs), daemon=True)
        watcher.start()
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.send_signal(
                signal.SIGINT
            )  # a terminal has told it already; another sender has not
            try:
                process.wait(timeout=30)
            except (KeyboardInterrupt, subprocess.TimeoutExpired):
                process.kill()
            raise ArtifactError(
                "interrupted; finished labs are kept, and the same command goes on"
            ) from None
        watcher.join(timeout=5)
    if code:
        raise StudyError(
            _failures(events) or f"Snakemake failed; see {relative_to_root(home / 'snakemake.log')}"
        )


@contextlib.contextmanager
def warm_server(log: Path):
    """Start the server that labs and their kernels are forked from; yields the environment that
    leads them to it.

    Only on Linux, where forking a process that has loaded numerical libraries is safe; elsewhere,
    and if it does not start, every process imports for itself.
    """
    if sys.platform != "linux":
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="memgen-") as folder, open(log, "w") as text:
        path = Path(folder) / "socket"
        kernel = Path(folder) / "kernels" / "python3" / "kernel.json"
        kernel.parent.mkdir(parents=True)
        kernel.write_text(
            json.dumps(
                {
                    "argv": [*FORK, "ipykernel_launcher", "-f", "{connection_file}"],
                    "display_name": "Python 3",
                    "language": "python",
                }
            )
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "memgen.warm", "serve", str(path)],
            stdin=subprocess.PIPE,
            stdout=text,
            stderr=text,
        )
        try:
            found = [folder, os.environ.get("JUPYTER_PATH", "")]
            yield {warm.SOCKET: str(path), "JUPYTER_PATH": os.pathsep.join(filter(None, found))}
        finally:
            process.stdin.close()
            process.wait()


def _pending(base: list[str]) -> int:
    """How many jobs Snakemake would run."""
    dry = subprocess.run([*base, "--dry-run", "--quiet", "rules"], capture_output=True, text=True)
    if dry.returncode:
        raise StudyError(
            f"Snakemake could not plan the labs:\n{dry.stdout[-2000:]}{dry.stderr[-2000:]}"
        )
    for line in (dry.stdout + dry.stderr).splitlines():
        if line.split()[:1] == ["total"]:
            return int(line.split()[1]) - 1  # without the rule that only gathers them
    return 0


def _report(process, events: Path, total: int, jobs: int) -> None:
    """One line a finished lab: how far, and how long is left by the labs timed so far."""
    seen, began, done, seconds = 0, time.monotonic(), 0, {}
    while True:
        alive = process.poll() is None
        lines = events.read_text().splitlines() if events.exists() else []
        for line in lines[seen:]:
            event = json.loads(line)
            done += 1
            seconds.setdefault(event["stage"], []).append(event["seconds"])
            left = _time_left(event["pending"], seconds, jobs) if event.get("pending") else None
            state = f"done in {duration(event['seconds'])}" if event["ok"] else "FAILED"
            tail = f", about {duration(left)} left" if left and done < total else ""
            print(
                f"[{done}/{total}] {event['stage']}  {event['task']} "
                f" {event['run']}{' ' + event['track'] if event['track'] != 'scratch' else ''} "
                f" {state}  ({duration(time.monotonic() - began)} so far{tail})",
                flush=True,
            )
        seen = len(lines)
        if not alive:
            return
        time.sleep(0.5)


def _time_left(pending: dict[str, int], seconds: dict[str, list[float]], jobs: int) -> float:
    mean = {stage: sum(s) / len(s) for stage, s in seconds.items()}
    scale = sum(mean.values()) / sum(EXPECTED_SECONDS[s] for s in mean)
    return (
        sum(n * mean.get(stage, EXPECTED_SECONDS[stage] * scale) for stage, n in pending.items())
        / jobs
    )


def _failures(events: Path) -> str:
    lines = (
        [json.loads(line) for line in events.read_text().splitlines()] if events.exists() else []
    )
    return "\n".join(event["message"] for event in lines if not event["ok"])


def tell(plan: Plan, job: Job, began: float, message: str | None) -> None:
    """Append what happened to the file that the parent process reads, if there is one."""
    path = os.environ.get("MEMGEN_EVENTS")
    if not path:
        return
    pending: dict[str, int] = {}
    for other in plan.jobs():
        if not plan.stamp(other).exists():
            pending[other.stage] = pending.get(other.stage, 0) + 1
    line = {
        "stage": job.stage,
        "task": job.task,
        "track": job.track,
        "run": job.run,
        "seconds": round(time.monotonic() - began, 1),
        "ok": message is None,
        "message": message,
        "pending": pending,
    }
    with open(path, "a") as file:
        file.write(json.dumps(line) + "\n")


def relative_to_root(path: Path) -> str:
    try:
        return str(path.relative_to(ROOT))
    except ValueError:
        return str(path)
