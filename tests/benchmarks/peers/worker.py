"""One engine in a process of its own: JSON lines in, JSON lines out.

    python -m benchmarks.peers.worker MODULE FOLDER

First it says `{"versions": ...}`, or `{"error": ...}` if it cannot be loaded. To
`{"work": "capture", "keep": "states.safetensors"}` it answers with what that took: `cpu_seconds` of all
its threads, `wall_seconds`, and `peak_bytes`, the most memory that the process held meanwhile.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from benchmarks.peers.scenario import Scenario


def forget_peak() -> None:
    """Let the kernel count the peak of memory from here on (Linux)."""
    with contextlib.suppress(OSError):  # elsewhere the peak is that of the process since it began
        Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int | None:
    """The most memory this process held since `forget_peak`; None where nothing counts it."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def timed(work: str, engine: Any) -> tuple[Any, dict[str, Any]]:
    """What the engine found, and what it took."""
    name, _, positions = work.partition(" ")
    forget_peak()
    worked, began = time.process_time(), time.perf_counter()
    found = getattr(engine, name)(*([positions] if positions else []))
    took = {
        "cpu_seconds": time.process_time() - worked,
        "wall_seconds": time.perf_counter() - began,
        "peak_bytes": peak_bytes(),
    }
    return found, took


def answered(said: dict[str, Any], engine: Any) -> dict[str, Any]:
    """The answer to one line."""
    try:
        found, took = timed(said["work"], engine)
    except Exception as error:  # whatever a library raises: the table says it
        return {"error": f"{type(error).__name__}: {error}"}
    if said.get("keep") and found is not None:
        save_file({"found": found.contiguous()}, said["keep"])
    return took


def main() -> None:
    module, folder = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer

    def say(value: dict[str, Any]) -> None:
        print(json.dumps(value), file=answers, flush=True)

    try:
        library = importlib.import_module(f"benchmarks.peers.engines.{module}")
        engine = library.Engine(Scenario.read(Path(folder)))
    except Exception as error:
        say({"error": f"{type(error).__name__}: {error}"})
        return
    say(
        {
            "versions": {name: version(name) for name in ("torch", *library.PACKAGES)},
            "notes": library.NOTES,
            "compared": library.COMPARED,
        }
    )
    for line in sys.stdin:
        say(answered(json.loads(line), engine))


if __name__ == "__main__":
    main()
