"""One job of a study: a lab or a base, run with the parameters that its command carries."""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from memgen.config.base import ROOT
from memgen.errors import EndedError, StudyError
from memgen.models.tokenizer import build_tokenizer
from memgen.pipeline.notebook import Lab
from memgen.pipeline.plan import TRAINING, base_of
from memgen.presets import stage_parameters
from memgen.store.artifacts import result_digest
from memgen.store.files import guard_disk
from memgen.store.folders import lab_folder
from memgen.training.base import ensure_base, ensure_shared_base


def run_lab(name: str, given: dict[str, Any]) -> None:
    """Execute a lab with papermill, text to stdout; notebook and stamp appear only on success.

    Raises `StudyError` with the lab's own message, `EndedError` if a signal ended its kernel.
    """
    from papermill.exceptions import PapermillExecutionError

    folder = lab_folder(name, stage_parameters(name, given))
    running, failed = (
        folder.with_name(f".{name}.running.ipynb"),
        folder.with_suffix(".failed.ipynb"),
    )
    with guard_disk(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            # in the main thread papermill would answer a signal by waiting for a busy kernel
            with ThreadPoolExecutor(1) as thread:
                thread.submit(_execute, name, running, given).result()
        except PapermillExecutionError as error:
            if error.ename in (EndedError.__name__, KeyboardInterrupt.__name__):
                raise EndedError(f"the kernel of lab {name} was interrupted") from None
            running.replace(failed)
            raise StudyError(_message(error)) from None
        except RuntimeError as error:  # papermill's for a kernel that is no longer there
            raise EndedError(f"the kernel of lab {name} has ended ({error})") from None
        running.replace(folder.with_suffix(".ipynb"))
    failed.unlink(missing_ok=True)
    write_stamp(folder)


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


def write_stamp(folder: Path) -> None:
    """Write the digest of a finished stage beside it; Snakemake compares it."""
    stamp = folder.with_name(f"{folder.name}.stamp")
    aside = stamp.with_name(f".{stamp.name}.tmp")  # a stamp that is there is whole
    aside.write_text(result_digest(folder) + "\n")
    os.replace(aside, stamp)


def run_base(given: dict[str, Any]) -> None:
    """Train the base that a run of training with these parameters starts from."""
    p = stage_parameters(TRAINING, given)
    folder = base_of(p)
    if folder is None:
        raise StudyError("a run with these parameters starts from no base of its own")
    if p.track == "scratch":
        lab = Lab(TRAINING, p)
        ensure_base(build_tokenizer(lab.task().vocabulary()), lab.dataset(), p, folder)
    else:
        ensure_shared_base(p)
    write_stamp(folder)
