"""Where a stage reads and writes: one folder a stage, finished whole or not at all.

    data/runs/<preset>/<task>/seed<k>/<NN_stage>/{manifest.json, result.json, tables and arrays}

A stage is computed in `<NN_stage>.partial` and renamed when it is complete; what crashes leaves no
finished folder. `manifest.json` holds the validated parameters, a fingerprint of the code, the
SHA-256 of every input and output, versions, wall time and peak memory. A finished stage with the
same parameters, inputs and code is not computed again.
"""

from __future__ import annotations

import ast
import contextlib
import errno
import fcntl
import hashlib
import json
import os
import platform
import resource
import shutil
import sys
import time
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from .errors import ArtifactError

MANIFEST, RESULT = "manifest.json", "result.json"
PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "tokenizers",
    "safetensors",
    "numpy",
    "scipy",
    "scikit-learn",
    "pandas",
    "statsmodels",
)
PACKAGE = Path(__file__).resolve().parent


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write JSON beside the target, then rename: readers see the old file or the new one, never
    half of it.
    """
    aside = path.with_name(path.name + ".tmp")
    with guard_disk(path):
        aside.write_text(json.dumps(value, indent=1, allow_nan=False, default=_plain) + "\n")
        os.replace(aside, path)


def _plain(value):
    """numpy scalars and arrays, paths and models as plain JSON."""
    for method in ("model_dump", "tolist"):
        if hasattr(value, method):
            return getattr(value, method)()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise ArtifactError(
            f"{path} is damaged (not readable as JSON); delete its folder and run that stage again"
        ) from None


@contextlib.contextmanager
def guard_disk(path: Path):
    """Turn 'no space left on device' into a sentence that names the folder."""
    try:
        yield
    except Exception as error:
        full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
        if full or "No space left on device" in str(
            error
        ):  # safetensors raises a class of its own, without errno
            raise ArtifactError(
                f"the disk is full: could not write {path}. Free some space and run the same"
                " command again; finished stages are kept"
            ) from None
        raise


@cache
def _imports(module: str) -> frozenset[str]:
    """Modules of this package that `module` (such as 'training' or 'tasks.base') imports, read from
    its source.
    """
    path = PACKAGE / (module.replace(".", "/") + ".py")
    if not path.is_file():
        path = PACKAGE / module.replace(".", "/") / "__init__.py"
    found = set()
    is_package = path.name == "__init__.py"
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom):
            continue
        parts, target = module.split(".") if module else [], node.module or ""
        if node.level:
            base = parts[: len(parts) - node.level + is_package]
        elif target.split(".")[0] == PACKAGE.name:  # `from memgen.sites import ...`
            base, target = [], target.partition(".")[2]
        else:
            continue
        names = (
            [".".join(base + [target])]
            if target
            else [".".join(base + [a.name]) for a in node.names]
        )
        found |= {
            name
            for name in names
            if (PACKAGE / (name.replace(".", "/") + ".py")).is_file()
            or (PACKAGE / name.replace(".", "/") / "__init__.py").is_file()
        }
    return frozenset(found)


def source_files(*modules: str) -> list[Path]:
    """The source files behind `modules`: themselves and all they import inside this package."""
    seen, waiting = set(), list(modules)
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting += _imports(module)
    paths = []
    for module in sorted(seen):
        path = PACKAGE / (module.replace(".", "/") + ".py")
        paths.append(path if path.is_file() else PACKAGE / module.replace(".", "/") / "__init__.py")
    return paths


def code_fingerprint(*modules: str) -> str:
    """One digest over the source of `modules` and all they import here, comments and layout aside."""
    digest = hashlib.sha256()
    for path in source_files(*modules):
        digest.update(ast.dump(ast.parse(path.read_text())).encode())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


class Stage:
    """One stage's folder: its inputs checked, its lock, its outputs.

    `inputs`: finished stage folders this one reads. `modules`: modules of this package whose code
    the numbers depend on.
    """

    def __init__(
        self, folder: Path, parameters: dict, inputs: list[Path] = (), modules: tuple[str, ...] = ()
    ):
        self.folder = Path(folder)
        self.partial = self.folder.with_name(self.folder.name + ".partial")
        self.parameters = parameters
        self.modules = modules
        self.input_folders = [Path(path) for path in inputs]
        self._lock = None
        self._started = time.monotonic()

    # -- reading ----------------------------------------------------------------------------------
    def check_inputs(self) -> dict[str, str]:
        """Digest of each input's manifest, after every file it lists was found unchanged."""
        digests = {}
        for folder in self.input_folders:
            verify(folder)
            digests[os.path.relpath(folder, self.folder.parent)] = _result_digest(folder)
        return digests

    def finished(self) -> bool:
        """Is there a finished, undamaged result of these parameters, these inputs and this code?"""
        if not (self.folder / MANIFEST).is_file():
            return False
        current = {
            "parameters": json.loads(json.dumps(self._identity(), default=_plain)),
            "inputs": self.check_inputs(),
            "code": code_fingerprint(*self.modules),
        }
        try:
            manifest = read_json(self.folder / MANIFEST)
            if any(manifest.get(name) != value for name, value in current.items()):
                return False
            verify(self.folder)
        except ArtifactError:
            return False  # a damaged result of our own is simply made again
        return True

    def _identity(self) -> dict:
        """The parameters that the numbers depend on; where the runs are kept is not one of them."""
        return {name: value for name, value in self.parameters.items() if name != "runs"}

    # -- writing ----------------------------------------------------------------------------------
    def begin(self, keep_partial: bool = False, wait: bool = False) -> Path:
        """Check the inputs, take the lock, and return the folder to write to.

        `keep_partial`: keep what an interrupted run left there (training resumes from it), if it
        has the same parameters.
        `wait`: wait for another run in this folder instead of refusing.
        """
        identity = {
            "parameters": json.loads(json.dumps(self._identity(), default=_plain)),
            "inputs": self.check_inputs(),
            "code": code_fingerprint(*self.modules),
        }
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
        self._started = time.monotonic()
        return self.partial

    def lock(self, wait: bool = False) -> None:
        """Hold this folder alone; the lock goes with the process, however it ends."""
        path = self.folder.with_name(self.folder.name + ".lock")
        self._lock = open(path, "w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            self._lock = None
            raise ArtifactError(
                f"another run is working in {self.folder}; wait for it, stop it, or give this run"
                " another folder with `runs`"
            ) from None

    def finish(self, result: dict, timings: dict | None = None) -> None:
        """Write result and manifest, then put the folder in place in one rename."""
        write_json(self.partial / RESULT, {**result, "timings": timings or {}})
        (self.partial / "started.json").unlink(missing_ok=True)
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
                "processor": _processor(),
                "cores": os.cpu_count(),
            },
            "wall_seconds": round(time.monotonic() - self._started, 2),
            "peak_memory_bytes": (
                resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                * (1 if sys.platform == "darwin" else 1024)
            ),
            "track": self.parameters.get("track", "scratch"),
        }
        write_json(self.partial / MANIFEST, manifest)
        with guard_disk(self.folder):
            old = self.folder.with_name(self.folder.name + ".old")
            shutil.rmtree(old, ignore_errors=True)
            if self.folder.exists():
                os.replace(self.folder, old)
            os.replace(self.partial, self.folder)
            shutil.rmtree(old, ignore_errors=True)
        self.release()

    def release(self) -> None:
        if self._lock:
            self._lock.close()
            self._lock = None

    def path(self, name: str) -> Path:
        return self.folder / name


def verify(folder: Path) -> dict:
    """Check a finished stage against its manifest; return the manifest.

    Raises `ArtifactError` naming the file and the stage to run again if anything is missing,
    truncated or altered.
    """
    folder = Path(folder)
    if not (folder / MANIFEST).is_file():
        raise ArtifactError(
            f"{folder} is missing or unfinished; run lab {folder.name} of this task and seed first"
        )
    manifest = read_json(folder / MANIFEST)
    for name, digest in manifest.get("outputs", {}).items():
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
    return manifest


def _result_digest(folder: Path) -> str:
    """Digest of all outputs of a finished stage except its timings, which differ from run to run."""
    outputs = dict(read_json(folder / MANIFEST)["outputs"])
    result = read_json(folder / RESULT)
    result.pop("timings", None)
    outputs[RESULT] = hashlib.sha256(json.dumps(result, sort_keys=True).encode()).hexdigest()
    return hashlib.sha256(json.dumps(outputs, sort_keys=True).encode()).hexdigest()


def _same_json(path: Path, value: dict) -> bool:
    try:
        return json.loads(path.read_text()) == value
    except (OSError, ValueError):
        return False


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
