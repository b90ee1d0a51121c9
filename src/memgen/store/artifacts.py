"""Where a stage reads and writes: one folder a stage, finished whole or not at all.

    data/runs/<preset>/<task>/seed<k>/<NN_stage>/{manifest.json, result.json, tables and arrays}

A stage is computed in `<NN_stage>.partial` and renamed when complete: a crash leaves no finished
folder. `manifest.json` holds the validated parameters, a fingerprint of the code, the SHA-256 of
every input and output, versions, wall time, CPU seconds (also by phase, see `memgen.phases`) and peak
memory. A finished stage with the same parameters, inputs and code is not computed again; no digest
of it covers what it took.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd
from safetensors.numpy import save_file

from memgen.errors import ArtifactError
from memgen.phases import FIGURES, by_phase, cpu_seconds, so_far, start
from memgen.store.files import (
    as_json,
    guard_disk,
    lock_file,
    lock_holder,
    read_json,
    read_sealed,
    sha256,
    write_json,
    write_sealed,
)
from memgen.store.fingerprint import code_fingerprint, function_fingerprint, processor, versions

MANIFEST, RESULT = "manifest.json", "result.json"
#: what a manifest without a seal may hold: earlier versions wrote such
_UNSEALED = (
    *("parameters", "overrides", "inputs", "code", "outputs", "versions", "machine", "track"),
    *("wall_seconds", "cpu_seconds", "peak_memory_bytes"),
)


@dataclass
class Result:
    """What a lab computed: `numbers` for `result.json`, and what lies beside it.

    `tables` and `arrays` (of numpy arrays) by name; `files`: by file name, a function that writes
    it to a path. `seconds`: timings, which may differ from run to run.
    """

    numbers: dict[str, Any]
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    arrays: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    files: dict[str, Callable[[Path], Any]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write all but the numbers, which `Stage.finish` takes."""
        with guard_disk(folder):
            for name, table in self.tables.items():
                table.to_parquet(folder / f"{name}.parquet", index=False)
            for name, values in self.arrays.items():
                packed = {key: np.ascontiguousarray(value) for key, value in values.items()}
                save_file(packed, folder / f"{name}.safetensors")
            for name, write in self.files.items():
                write(folder / name)


class Stage:
    """One stage's folder: its inputs checked, its lock, its outputs.

    `inputs`: finished stage folders this one reads. `modules` of this package, and `compute` (a
    function, such as one in a notebook's cell): the code that the numbers depend on.
    """

    def __init__(
        self,
        folder: Path,
        parameters: dict[str, Any],
        inputs: Iterable[Path] = (),
        modules: tuple[str, ...] = (),
    ):
        self.folder = Path(folder)
        self.partial = self.folder.with_name(self.folder.name + ".partial")
        self.parameters = parameters
        self.modules = modules
        self.compute: Callable[..., Any] | None = None
        self.input_folders = [Path(path) for path in inputs]
        self._lock: TextIO | None = None
        self._started, self._worked = time.monotonic(), cpu_seconds()
        self._start, self._phases = 0.0, so_far()

    # -- reading ----------------------------------------------------------------------------------
    def check_inputs(self) -> dict[str, str]:
        """Digest of each input's manifest, after every file it lists was found unchanged."""
        digests = {}
        for folder in self.input_folders:
            verify(folder)
            digests[os.path.relpath(folder, self.folder.parent)] = result_digest(folder)
        return digests

    def finished(self) -> bool:
        """Is there a finished, undamaged result of these parameters, these inputs and this code?"""
        if not (self.folder / MANIFEST).is_file():
            return False
        current = self._identity()
        try:
            manifest = read_manifest(self.folder)
            if any(manifest.get(name) != value for name, value in current.items()):
                return False
            verify(self.folder)
        except ArtifactError:
            return False  # a damaged result of our own is simply made again
        return True

    def _code(self) -> str:
        modules = code_fingerprint(*self.modules)
        return modules if self.compute is None else modules + function_fingerprint(self.compute)

    def _identity(self) -> dict[str, Any]:
        """What the numbers depend on; where the runs are kept is not part of it."""
        parameters = {name: value for name, value in self.parameters.items() if name != "runs"}
        return {
            "parameters": json.loads(json.dumps(parameters, default=as_json)),
            "inputs": self.check_inputs(),
            "code": self._code(),
        }

    # -- writing ----------------------------------------------------------------------------------
    def begin(self, keep_partial: bool = False, wait: bool = False) -> Path:
        """Check the inputs, take the lock, and return the folder to write to.

        `keep_partial`: keep what an interrupted run with the same parameters left (training
        resumes). `wait`: wait for another run in this folder instead of refusing.
        """
        identity = self._identity()
        with guard_disk(self.folder):
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self.lock(wait)
            started = self.partial / "started.json"
            resumable = keep_partial and started.is_file() and _same_json(started, identity)
            if self.partial.exists() and not resumable:
                shutil.rmtree(self.partial)
            self.partial.mkdir(exist_ok=True)
        if not resumable:
            write_json(started, identity)
        self._identity_at_start = identity
        self._started, self._worked = time.monotonic(), cpu_seconds()
        self._start, self._phases = start(), so_far()
        return self.partial

    def lock(self, wait: bool = False) -> None:
        """Hold this folder alone; the lock goes with the process, however it ends."""
        path = self.folder.with_name(self.folder.name + ".lock")
        self._lock = lock_file(path, wait)
        if not self._lock:
            raise ArtifactError(
                f"another run is working in {self.folder}{lock_holder(path)}; wait for it, stop"
                " it, or give this run another folder with `runs`"
            )

    def finish(self, result: dict[str, Any], timings: dict[str, Any] | None = None) -> None:
        """Write result and manifest, then put the folder in place in one rename."""
        write_json(self.partial / RESULT, {**result, "timings": timings or {}})
        (self.partial / "started.json").unlink(missing_ok=True)
        self._finished = cpu_seconds()
        used = self._finished - self._worked
        outputs = {
            str(path.relative_to(self.partial)): sha256(path)
            for path in sorted(self.partial.rglob("*"))
            if path.is_file()
        }
        manifest = {
            **self._identity_at_start,
            "outputs": outputs,
            "versions": versions(),
            "machine": {
                "platform": platform.platform(),
                "processor": processor(),
                "cores": os.cpu_count(),
            },
            "wall_seconds": round(time.monotonic() - self._started, 2),
            "cpu_seconds": round(used, 2),
            "cpu_by_phase": by_phase(self._phases, self._start, used),
            "peak_memory_bytes": _peak_memory(),
            "track": self.parameters.get("track", "scratch"),
        }
        write_sealed(self.partial / MANIFEST, manifest)
        with guard_disk(self.folder):
            old = self.folder.with_name(self.folder.name + ".old")
            shutil.rmtree(old, ignore_errors=True)
            if self.folder.exists():
                os.replace(self.folder, old)
            os.replace(self.partial, self.folder)
            shutil.rmtree(old, ignore_errors=True)
        self.release()

    def count_figures(self) -> None:
        """Write to the manifest what this process has used since the stage was finished.

        Its figures are drawn then. They and the start come on top of `cpu_seconds`.
        """
        manifest = read_manifest(self.folder)
        manifest["cpu_by_phase"][FIGURES] = round(cpu_seconds() - self._finished, 2)
        write_sealed(self.folder / MANIFEST, manifest)

    def release(self) -> None:
        if self._lock:
            self._lock.close()
            self._lock = None

    def path(self, name: str) -> Path:
        return self.folder / name


def verify(folder: Path) -> dict[str, Any]:
    """Check a finished stage against its manifest; return the manifest.

    Raises `ArtifactError` naming the file that is missing or altered and the stage to run again.
    """
    folder = Path(folder)
    if not (folder / MANIFEST).is_file():
        raise ArtifactError(
            f"{folder} is missing or unfinished; run lab {folder.name} of this task and seed first"
        )
    manifest = read_manifest(folder)
    check_files(folder, manifest)
    return manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    """A stage's manifest. Errors: `ArtifactError` naming it if it is missing or damaged."""
    return read_sealed(Path(folder) / MANIFEST, _UNSEALED)


def check_files(folder: Path, manifest: dict[str, Any], under: str = "") -> None:
    """Is every output of the manifest there, unaltered? `under`: only that file or folder.

    Errors: `ArtifactError` naming the file, and the stage to run again.
    """
    for name, digest in manifest.get("outputs", {}).items():
        if under and name != under and not name.startswith(under + "/"):
            continue
        path = folder / name
        if not path.is_file():
            raise ArtifactError(
                f"{path} is missing; delete {folder} and run lab {folder.name} again"
            )
        if sha256(path) != digest:
            raise ArtifactError(
                f"{path} was altered or truncated (its SHA-256 differs from the manifest's); "
                f"delete {folder} and run lab {folder.name} again"
            )


def result_digest(folder: Path) -> str:
    """Digest of all outputs of a finished stage except its timings, which differ from run to run."""
    outputs = dict(read_manifest(folder)["outputs"])
    result = read_json(folder / RESULT)
    result.pop("timings", None)
    outputs[RESULT] = hashlib.sha256(json.dumps(result, sort_keys=True).encode()).hexdigest()
    return hashlib.sha256(json.dumps(outputs, sort_keys=True).encode()).hexdigest()


def _peak_memory() -> int | None:
    """Of this process, in bytes; None on a system that does not count it."""
    with contextlib.suppress(ImportError):
        import resource  # there is none on Windows

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return None


def _same_json(path: Path, value: dict[str, Any]) -> bool:
    try:
        return bool(json.loads(path.read_text()) == value)
    except (OSError, ValueError):
        return False
