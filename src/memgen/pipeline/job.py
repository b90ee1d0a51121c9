"""One job of a study: a lab, run with the parameters that its command carries."""

from __future__ import annotations

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from memgen.config.base import ROOT
from memgen.errors import EndedError, InapplicableError, StudyError
from memgen.pipeline import as_left
from memgen.presets import stage_parameters
from memgen.store.artifacts import result_digest
from memgen.store.files import guard_disk, write_whole
from memgen.store.folders import lab_folder, stamp_beside
from memgen.store.left_out import MARK


def run_lab(name: str, given: dict[str, Any], out: Path | None = None) -> None:
    """Execute a lab with papermill, text to stdout; notebook and stamp appear only on success.

    `out`: where the executed notebook goes; without it the lab is a part of its study, and has its
    notebook and its stamp there; one that does not apply to its run leaves a stamp that says why, and
    nothing else. Raises `StudyError` with the lab's own message, `EndedError` if a signal ended its
    kernel. A lab of a study that was executed from what is there now is not executed again.
    """
    from papermill.exceptions import PapermillExecutionError

    p = stage_parameters(name, given)
    folder = lab_folder(name, p)
    target = out or folder.with_suffix(".ipynb")
    running = target.with_name(f".{target.stem}.running.ipynb")
    failed = target.with_suffix(".failed.ipynb")
    made = as_left.made_of(name, p, given) if out is None else ""
    if as_left.is_as_left(folder, target, made):
        print("nothing that this lab is made of has changed since it was executed", flush=True)
        failed.unlink(missing_ok=True)
        return write_stamp(folder)
    with guard_disk(folder):
        for parent in (folder.parent, target.parent):
            parent.mkdir(parents=True, exist_ok=True)
        try:
            # in the main thread papermill would answer a signal by waiting for a busy kernel
            with ThreadPoolExecutor(1) as thread:
                thread.submit(_execute, name, running, given).result()
        except PapermillExecutionError as error:
            if error.ename in (EndedError.__name__, KeyboardInterrupt.__name__):
                raise EndedError(f"the kernel of lab {name} was interrupted") from None
            if error.ename == InapplicableError.__name__ and out is None:
                running.unlink()
                return _leave_out(folder, error.evalue)
            running.replace(failed)
            raise StudyError(_message(error)) from None
        except RuntimeError as error:  # papermill's for a kernel that is no longer there
            raise EndedError(f"the kernel of lab {name} has ended ({error})") from None
        running.replace(target)
    failed.unlink(missing_ok=True)
    if out is None:
        write_stamp(folder)
        as_left.note(folder, target, made)


def _execute(name: str, running: Path, given: dict[str, Any]) -> None:
    import papermill

    papermill.execute_notebook(
        str(ROOT / "notebooks" / f"{name}.ipynb"),
        str(running),
        parameters=given,
        cwd=str(ROOT),
        kernel_name="python3",
        progress_bar=False,
        log_output=False,
        stdout_file=sys.stdout,
        stderr_file=sys.stdout,
        autosave_cell_every=0,
    )


def _message(error) -> str:
    """The user's message where there is one, else the exception."""
    if error.ename in {StudyError.__name__, *(cls.__name__ for cls in StudyError.__subclasses__())}:
        return error.evalue
    return f"{error.ename}: {error.evalue}"


def _leave_out(folder: Path, why: str) -> None:
    """The stage does not apply: what it left when it did is another run's, and goes."""
    for path in (folder, folder.with_name(f"{folder.name}.partial")):
        shutil.rmtree(path, ignore_errors=True)
    for suffix in (".ipynb", ".failed.ipynb"):
        folder.with_suffix(suffix).unlink(missing_ok=True)
    write_whole(stamp_beside(folder), f"{MARK}{why}\n")
    print(MARK + why, flush=True)


def write_stamp(folder: Path) -> None:
    """Write the digest of a finished stage beside it; Snakemake compares it."""
    write_whole(stamp_beside(folder), result_digest(folder) + "\n")
