"""The environment that a run computes in: what the machine needs to say, and nothing of the user's.

A run depends on the repository, on its parameters and on the machine's arithmetic. Startup files,
profiles, rc files, kernels and variables that a user has set up for other work would reach it
through the environment and the home folder; so every process of a run gets an environment that is
made here, by a list of what passes. Tools that look for settings in the home find an empty folder
of the study instead. What a machine has to say has a name that begins with `MEMGEN_`: threads
(`MEMGEN_THREADS`), the folder of downloaded models (`MEMGEN_HF_HOME`).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import memgen
from memgen.errors import ParameterError
from memgen.pipeline import warm
from memgen.store.numerics import environment

#: who and where, which language and time zone; what shells keep; where programs and libraries lie
PASSING = frozenset(
    "PATH HOME USER LOGNAME SHELL TERM LANG LANGUAGE TZ TMPDIR TEMP TMP PWD OLDPWD SHLVL _"
    " LD_LIBRARY_PATH DYLD_LIBRARY_PATH SYSTEMROOT CUDA_VISIBLE_DEVICES".split()
)
#: ours, the locale's, and what a cluster says about the job
PASSING_PREFIXES = ("MEMGEN_", "LC_", "SLURM_")
#: set in every environment that was made here
MARK = "MEMGEN_CLEAN"
TOOLS = ".tools"  # the folder of the study that tools find in place of the home's
KERNEL = ("-m", "memgen.pipeline.kernel", "-f", "{connection_file}")


def passing(found: Mapping[str, str]) -> dict[str, str]:
    """What of an environment reaches a run."""
    return {
        name: value
        for name, value in found.items()
        if name in PASSING or name.startswith(PASSING_PREFIXES)
    }


def refuse_unfit(found: Mapping[str, str] | None = None) -> None:
    """Raise `ParameterError` for a variable of ours that says nothing usable.

    `found`: the environment (None: this process's). A library would take such a number of threads for
    all that there are, and other threads may give other last digits.
    """
    found = os.environ if found is None else found
    threads, hub = found.get("MEMGEN_THREADS", "1"), found.get("MEMGEN_HF_HOME")
    if not (threads.isascii() and threads.isdigit() and int(threads)):
        raise ParameterError(
            f"MEMGEN_THREADS={threads!r} is no number of threads; set it to 1 or more, or not at all"
        )
    if hub and not (os.path.isabs(hub) and os.path.isdir(hub)):
        raise ParameterError(
            f"MEMGEN_HF_HOME={hub!r} is no folder; set it to the whole path of the one with downloaded"
            " models, or not at all"
        )


def surroundings(
    home: Path, numerics: str = "native", found: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The environment of every process of a study whose folder is `home`; makes the tools' folder.

    `found`: what passes comes from there (None: this process's environment).
    """
    kept = passing(os.environ if found is None else found)
    # in a container one may be a number that no table of users names, and libraries ask for a name
    kept.setdefault("LOGNAME", kept.get("USER") or str(os.getuid()))
    tools = home / TOOLS
    write_kernel(tools, [sys.executable, *KERNEL])
    kernels = [str(tools)]
    socket = kept.get(warm.SOCKET)
    if socket and (Path(socket).parent / "kernels").is_dir():  # forked from the server: first
        kernels.insert(0, str(Path(socket).parent))
    return {
        **kept,
        **environment(numerics),
        MARK: "1",
        # the package that is running now, whatever else is installed under its name
        "PYTHONPATH": str(Path(memgen.__file__).parents[1]),
        "PYTHONHASHSEED": "0",
        "PYTHONNOUSERSITE": "1",
        "PYTHONSAFEPATH": "1",  # no module of the folder that the command was typed in
        "PYTHONUTF8": "1",
        "IPYTHONDIR": str(tools / "ipython"),
        "JUPYTER_CONFIG_DIR": str(tools / "jupyter"),
        "JUPYTER_DATA_DIR": str(tools / "jupyter"),
        "JUPYTER_RUNTIME_DIR": str(tools / "jupyter" / "runtime"),
        "JUPYTER_NO_CONFIG": "1",
        "JUPYTER_PATH": os.pathsep.join(kernels),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # as a kernel has it
        "MPLCONFIGDIR": str(tools / "matplotlib"),
        "TORCHINDUCTOR_CACHE_DIR": str(tools / "torchinductor"),  # torch makes it, used or not
        "XDG_CACHE_HOME": str(tools / "cache"),
        "XDG_CONFIG_HOME": str(tools / "config"),
    }


def is_clean(found: Mapping[str, str] | None = None) -> bool:
    """Was this environment (None: this process's) made by `surroundings`?"""
    return MARK in (os.environ if found is None else found)


def write_kernel(folder: Path, argv: Sequence[str]) -> None:
    """Say in `folder` that the kernel `python3` is this command; Jupyter is told to look there first."""
    spec = folder / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True, exist_ok=True)
    about = {"argv": list(argv), "display_name": "Python 3", "language": "python"}
    text = json.dumps(about | {"metadata": {"supported_encryption": ["curve"]}})
    if not spec.is_file() or spec.read_text() != text:
        aside = spec.with_name(f"{spec.name}.{os.getpid()}")  # labs side by side write it
        aside.write_text(text)
        os.replace(aside, spec)
