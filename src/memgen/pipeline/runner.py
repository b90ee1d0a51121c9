"""Run what has to run of a study: Snakemake as a process of its own, one study per folder at a time."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from memgen.config.base import ROOT
from memgen.errors import ArtifactError, StudyError
from memgen.pipeline import warm
from memgen.pipeline.plan import Plan
from memgen.pipeline.report import FAILURES, relative_to_root
from memgen.pipeline.surroundings import KERNEL, surroundings, write_kernel
from memgen.stages import LABS
from memgen.store.files import guard_disk, lock_file


def run_labs(plan: Plan, jobs: int) -> None:
    """Run the labs, `jobs` at once; `StudyError`: some failed, `ArtifactError`: in use, cut off."""
    home = plan.home
    with guard_disk(home):
        home.mkdir(parents=True, exist_ok=True)
        lock = lock_file(home / ".study.lock")
        if not lock:
            raise ArtifactError(
                f"another run is working in {home}; wait for it, stop it, or choose another folder"
                " with RUNS=..."
            )
        (home / "study.json").write_text(plan.to_json())
    with lock:
        command = _snakemake(home, jobs)
        numerics = plan.settings.get("numerics") or "native"
        if any((home / ".snakemake" / "locks").glob("*")):
            # ours is the only run, so a lock that Snakemake left behind is stale
            subprocess.run([*command, "--unlock"], capture_output=True, env=surroundings(home))
        code = _wait(command, home, lock.fileno(), numerics)
    if code:
        said = home / FAILURES
        raise StudyError(
            said.read_text().strip()
            if said.is_file()
            else f"Snakemake failed; see {relative_to_root(home / 'snakemake.log')}"
        )


def _snakemake(home: Path, jobs: int) -> list[str]:
    return [
        *(sys.executable, "-m", "snakemake"),
        *("--snakefile", str(ROOT / "Snakefile")),
        *("--configfile", str(home / "study.json")),
        *("--directory", str(home)),
        *("--cores", str(jobs)),
        # nobody's profile: neither one that the user set up nor one that lies in a folder
        *("--profile", "none", "--workflow-profile", "none"),
        *("--rerun-incomplete", "--keep-going", "--nocolor"),
        # every finished job leaves a timer that asks again what can run, once in this time span
        # (default 1 s): 200 jobs would keep a sixth of a core busy
        *("--max-jobs-per-timespan", "1000/3s"),
    ]


def _wait(command: list[str], home: Path, lock: int, numerics: str) -> int:
    """Snakemake's exit status. Its report goes to standard output, its own log to the study's folder."""
    (home / FAILURES).unlink(missing_ok=True)
    own = surroundings(home, numerics)
    with open(home / "snakemake.log", "w") as log, warm_server(home / "warm.log", own) as server:
        process = subprocess.Popen(
            command,
            stderr=log,
            env=surroundings(home, numerics, {**own, **server}),
            pass_fds=(lock,),  # if this process is killed, the lock lives on with Snakemake
        )
        try:
            return process.wait()
        except KeyboardInterrupt:
            # a terminal has told it already; another sender has not
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=30)
            except (KeyboardInterrupt, subprocess.TimeoutExpired):
                process.kill()
            raise ArtifactError(
                "interrupted; finished labs are kept, and the same command goes on"
            ) from None


@contextlib.contextmanager
def warm_server(log: Path, own: dict[str, str]):
    """The server that labs and kernels are forked from; yields the variable that leads to it.

    Only on Linux, where forking after loading numerical libraries is safe; elsewhere, and if it
    does not start, every process imports for itself.
    """
    if sys.platform != "linux":
        yield {}
        return
    modules = [
        f"memgen.{room}.{row.short}" for row in LABS.values() for room in ("labs", "figures")
    ]
    with tempfile.TemporaryDirectory(prefix="memgen-") as folder, open(log, "w") as text:
        path = Path(folder) / "socket"
        write_kernel(Path(folder), [*warm.FORK, *KERNEL[1:]])
        process = subprocess.Popen(
            [sys.executable, "-m", "memgen.pipeline.warm", "serve", str(path), *modules],
            stdin=subprocess.PIPE,
            stdout=text,
            stderr=text,
            env=own,
        )
        try:
            yield {warm.SOCKET: str(path)}
        finally:
            process.stdin.close()
            process.wait()
