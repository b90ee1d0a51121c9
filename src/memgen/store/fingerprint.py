"""What a stage's numbers depend on besides parameters and inputs: code, versions, processor."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import inspect
import os
import platform
import textwrap
from collections.abc import Callable, Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import grimp
from grimp.adaptors.filesystem import FileSystem
from grimp.application.config import settings

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
PACKAGE = Path(__file__).resolve().parents[1]


class _Modules(FileSystem):
    """Files that can be imported; no link that leads nowhere, no editor's lock, no copy."""

    def walk(self, directory_name: str) -> Iterator[tuple[str, list[str], list[str]]]:
        for folder, folders, files in super().walk(directory_name):
            folders[:] = [one for one in folders if not os.path.islink(os.path.join(folder, one))]
            yield folder, folders, [one for one in files if self._is_module(folder, one)]

    def _is_module(self, folder: str, name: str) -> bool:
        stem, dot, end = name.rpartition(".")
        return end == "py" and stem.isidentifier() and os.path.isfile(os.path.join(folder, name))


@cache
def import_graph() -> grimp.ImportGraph:
    """Who imports whom in this package, also inside functions. 0.05 s of work, once per process.

    Without the table of the labs: one lab more changes no number of the others, and what a lab
    reads is part of its stage already.
    """
    usual = settings.FILE_SYSTEM
    settings.configure(FILE_SYSTEM=_Modules())
    try:
        graph = grimp.build_graph(PACKAGE.name, cache_dir=None)
    finally:
        settings.configure(FILE_SYSTEM=usual)
    graph.remove_module(f"{PACKAGE.name}.stages")
    return graph


def source_files(*modules: str) -> list[Path]:
    """The files of `modules` (such as `labs.transfer`) and of all they import in this package.

    A table beside a module, of its name (`facts.csv`), is what it reads, and comes right after it.
    """
    named = {f"{PACKAGE.name}.{module}" for module in modules}
    found = named.union(*(import_graph().find_upstream_modules(module) for module in named))
    files = [_file(module) for module in sorted(found)]
    both = ([path, path.with_suffix(".csv")] for path in files)
    return [path for pair in both for path in pair if path.suffix == ".py" or path.is_file()]


def _file(module: str) -> Path:
    path = PACKAGE.parent.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def code_fingerprint(*modules: str) -> str:
    """One digest over the source of `modules` and all they import here, comments and layout aside,
    and over the tables beside them.
    """
    digest = hashlib.sha256()
    for path in source_files(*modules):
        text = path.read_text(encoding="utf8")
        digest.update((ast.dump(ast.parse(text)) if path.suffix == ".py" else text).encode())
    return digest.hexdigest()


def function_fingerprint(function: Callable[..., Any]) -> str:
    """The same over one function, as it stands in a module or in a notebook's cell."""
    source = textwrap.dedent(inspect.getsource(function))
    return hashlib.sha256(ast.dump(ast.parse(source)).encode()).hexdigest()


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
