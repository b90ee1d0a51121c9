"""Run what has to run of a study: Snakemake as a process of its own, one study per folder at a time."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import TextIO

from memgen.config.base import ROOT
from memgen.errors import ArtifactError, EndedError, StudyError
from memgen.pipeline import settled, slurm_jobs, warm
from memgen.pipeline.engine import Engine, job_name
from memgen.pipeline.keeper import Spec, keep, remove, told_to_end
from memgen.pipeline.plan import PLANNED, Plan
from memgen.pipeline.report import FAILURES, relative_to_root
from memgen.pipeline.surroundings import KERNEL, surroundings, write_kernel
from memgen.stages import LABS
from memgen.store.files import (
    disk_full,
    guard_disk,
    is_full,
    lock_file,
    lock_holder,
    lock_is_orphaned,
    read_lock,
    sign_lock,
    write_whole,
)
from memgen.store.ours import claim_runs

GOES_ON = "finished labs are kept, and the same command goes on"
#: how the name of a run's temporary folder begins, and the file in it that names the study's folder
_PREFIX, _OF = "memgen-", "study"
#: seconds that the next run waits for what is left of a killed one
_PATIENCE = 10.0
#: and for the jobs of an earlier one to leave a cluster: Slurm kills those that do not end by themselves
_EARLIER = 90.0


def run_labs(plan: Plan, jobs: int, engine: Engine | None = None) -> None:
    """Run the labs, `jobs` at once (or as an engine's profile says), and none longer than this process.

    `StudyError`: some failed. `ArtifactError`: the folder is in use. `EndedError`: one of its processes
    was ended from outside. `KeyboardInterrupt`: this one is asked to end, by the signal that it names.
    """
    home, engine = plan.home, engine or Engine()
    if not engine.elsewhere and settled.is_settled(plan):
        print("labs: nothing to run, all are up to date", flush=True)
        return
    sources = settled.sources_of(plan)
    with guard_disk(home), told_to_end():
        claim_runs(home)
        with _take(home / ".study.lock") as lock:
            write_whole(home / PLANNED, plan.to_json())
            numerics = plan.settings.get("numerics") or "native"
            command = _snakemake(home, jobs, engine)
            code = _wait(command, home, lock, numerics, engine)
    said = home / FAILURES
    failures = said.read_text().strip() if said.is_file() else ""
    if code and not failures and is_full(home):  # so that nobody could write what had failed
        raise ArtifactError(disk_full(home))
    if code >= 128:
        failures = failures or "Snakemake or the server of the labs was ended from outside"
        raise EndedError(f"{failures}; {GOES_ON}")
    if code:
        raise StudyError(
            failures or f"Snakemake failed; see {relative_to_root(home / 'snakemake.log')}"
        )
    settled.note(plan, sources)


def _take(path: Path) -> TextIO:
    """The study's lock; what a killed run left behind is gone. `ArtifactError`: another run has it."""
    left, until = read_lock(path), time.monotonic() + _PATIENCE
    while not (lock := lock_file(path)):
        if not lock_is_orphaned(path) or time.monotonic() > until:
            raise ArtifactError(
                f"another run is working in {path.parent}{lock_holder(path)}; wait for it, stop it,"
                " or choose another folder with RUNS=..."
            )
        time.sleep(0.1)
    _remove_left(left.get("folder"), path.parent)
    return lock


def _remove_left(folder: object, home: Path) -> None:
    """Remove the temporary folder of an earlier run of this study, and nothing that is not one."""
    if not isinstance(folder, str) or not Path(folder).name.startswith(_PREFIX):
        return
    of = Path(folder) / _OF
    with contextlib.suppress(OSError):
        if of.read_text() == str(home) and not Path(folder).is_symlink():
            remove([folder])


def _snakemake(home: Path, jobs: int, engine: Engine) -> list[str]:
    return [
        *(sys.executable, "-m", "snakemake"),
        *("--snakefile", str(ROOT / "Snakefile")),
        *("--configfile", str(home / PLANNED)),
        *("--directory", str(home)),
        # in a job of a cluster, labs run one after the other
        *("--cores", str(1 if engine.elsewhere else jobs)),
        # not in the user's cache: what is killed cannot remove it
        *("--runtime-source-cache-path", str(_sources(home))),
        # no profile that the user set up, and none that lies in a folder
        *engine.arguments(home),
        *("--rerun-incomplete", "--keep-going", "--nocolor"),
    ]


def _sources(home: Path) -> Path:
    """Where Snakemake keeps its copy of the Snakefile."""
    return home / ".snakemake" / "sources"


def _wait(
    command: list[str], home: Path, lock: TextIO, numerics: str, engine: Engine | None = None
) -> int:
    """Snakemake's exit status. Its report goes to standard output, its own log to the study's folder.

    A keeper starts it and ends it with all its processes, also if this process is killed. A signal
    that asks this process to end is a `KeyboardInterrupt`, when all the others have ended. Jobs in a
    Slurm are cancelled: those of an earlier run first, those of this one by the keeper and here, for
    the keeper may be killed, too.
    """
    engine = engine or Engine()
    if engine.slurm:
        _end_jobs(home, _EARLIER)
    (home / FAILURES).unlink(missing_ok=True)
    locks = home / ".snakemake" / "locks"  # ours is the only run: what it left behind is stale
    folder = _temporary() / (_PREFIX + secrets.token_hex(4))
    kept = [str(folder), str(locks)]
    # Snakemake would go on with the Snakefile of the first run, whatever has been changed in it
    remove([str(locks), str(_sources(home))])
    sign_lock(lock, folder=str(folder))  # the next run removes it, should nobody else
    try:
        folder.mkdir(mode=0o700)
        (folder / _OF).write_text(str(home))
        # a server is for the processes of this machine
        server, own = ([], {}) if engine.elsewhere else warm_server(folder)
        found = _for_other_machines(folder) if engine.elsewhere else dict(os.environ)
        environment = surroundings(home, numerics, {**found, **own}) | own
        last = [sys.executable, "-I", "-S", slurm_jobs.__file__, job_name(home)]
        last = last if engine.slurm else []
        spec = Spec(command, server, str(home / "warm.log"), lock.fileno(), kept, last)
        with open(home / "snakemake.log", "w") as log:
            return keep(spec, log, environment)
    finally:
        remove(kept)
        if engine.slurm:
            _end_jobs(home, _PATIENCE)


def _end_jobs(home: Path, seconds: float) -> None:
    """Cancel the jobs that this study has in Slurm, and say which do not end in time."""
    if left := slurm_jobs.cancel(job_name(home), seconds):
        print(
            f"Slurm has not ended jobs {', '.join(left)} of this study yet; `squeue` shows them, and"
            f" `scancel {' '.join(left)}` asks it again",
            file=sys.stderr,
            flush=True,
        )


def _for_other_machines(folder: Path) -> dict[str, str]:
    """This process's environment without this machine's folders for temporary files.

    Jobs inherit it. Here `folder` takes such files; a job has the TMPDIR of its own machine, which
    Python asks first.
    """
    here = ("TMPDIR", "TEMP", "TMP")
    return {k: v for k, v in os.environ.items() if k not in here} | {"TEMP": str(folder)}


def _temporary() -> Path:
    """The folder of temporary files. `ArtifactError`: there is none that can be written to."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        raise ArtifactError(
            "no folder for temporary files can be written to (TMPDIR, /tmp, /var/tmp); set TMPDIR to"
            " one that has space"
        ) from None


def _can_listen(path: Path) -> bool:
    """Can a server listen there? Not at a path of more than 107 bytes, nor on every file system."""
    with socket.socket(socket.AF_UNIX) as trial, contextlib.suppress(OSError):
        trial.bind(str(path))
        path.unlink()
        return True
    return False


def warm_server(folder: Path) -> tuple[list[str], dict[str, str]]:
    """The server that labs and kernels are forked from: its command, the environment that leads to it.

    Only on Linux, where forking after loading numerical libraries is safe; elsewhere, and where no
    server can listen in `folder`, every process imports for itself. What a process leaves in its
    temporary folder or Jupyter's goes with `folder`.
    """
    runtime = folder / "runtime"
    runtime.mkdir()
    environment = {"TMPDIR": str(folder), "JUPYTER_RUNTIME_DIR": str(runtime)}
    path = folder / "socket"
    if sys.platform != "linux" or not _can_listen(path):
        return [], environment
    modules = [
        f"memgen.{room}.{row.short}" for row in LABS.values() for room in ("labs", "figures")
    ]
    write_kernel(folder, [*warm.FORK, *KERNEL[1:]])
    environment |= {warm.SOCKET: str(path)}
    server = [sys.executable, "-m", "memgen.pipeline.warm", "serve", str(path), *modules]
    return server, environment
