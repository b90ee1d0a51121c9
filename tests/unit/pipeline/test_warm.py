"""A forked process is what `python -m` would have started: arguments, folder, environment, streams,
signals, status, and its end.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from memgen.pipeline import warm
from memgen.pipeline.warm import FORK, PRELOADED
from memgen.stages import LABS

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="forked processes are used on Linux only"
)

PROGRAM = """
import json, os, sys, time
print("imported", "memgen.errors" in sys.modules, flush=True)
print(json.dumps([sys.argv[1:], os.getcwd(), os.environ.get("COLOUR")]), flush=True)
print("problem", file=sys.stderr, flush=True)
what = sys.argv[1]
if what == "exit": sys.exit(7)
if what == "raise": raise ValueError("wrong")
if what == "kill": os.kill(os.getpid(), 9)
if what == "sleep":
    try:  # who reads the number may interrupt at once, also just before a sleep begins: short ones
        print(os.getpid(), flush=True)
        for _ in range(600): time.sleep(0.1)
    except KeyboardInterrupt: print("interrupted", flush=True); sys.exit(3)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("warm")
    (folder / "program.py").write_text(PROGRAM)
    path = folder / "socket"
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from memgen.pipeline.warm import serve;"
            f" serve({str(path)!r}, ('memgen.errors', 'memgen.nothing'))",
        ],
        stdin=subprocess.PIPE,
    )
    for _ in range(200):
        if path.exists():
            break
        time.sleep(0.05)
    yield folder, {**os.environ, warm.SOCKET: str(path), "COLOUR": "blue"}
    process.stdin.close()
    assert process.wait(timeout=10) == 0


def call(server, *arguments: str, **options) -> subprocess.Popen:
    folder, environment = server
    return subprocess.Popen(
        [*FORK, "program", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_a_fork_has_what_its_caller_has(server):
    process = call(server, "say", "two words")
    out, error = process.communicate(timeout=20)
    assert out.splitlines() == [
        "imported True",
        f'[["say", "two words"], "{Path(server[0]).resolve()}", "blue"]',
    ]
    assert error == "problem\n" and process.returncode == 0


def test_what_is_imported_ahead_is_there():
    """A name that is no module would only cost time, in silence."""
    labs = [f"memgen.{room}.{row.short}" for row in LABS.values() for room in ("labs", "figures")]
    assert all(importlib.util.find_spec(name) for name in [*PRELOADED, *labs])


@pytest.mark.parametrize(
    "what, status, said", [("exit", 7, ""), ("raise", 1, "ValueError: wrong"), ("kill", 137, "")]
)
def test_a_fork_ends_as_its_program_does(server, what, status, said):
    process = call(server, what)
    error = process.communicate(timeout=20)[1]
    assert process.returncode == status and said in error


def test_without_a_server_it_is_python_itself(server, tmp_path):
    folder, environment = server
    process = call((folder, {**environment, warm.SOCKET: str(tmp_path / "nobody")}), "exit")
    assert (
        process.communicate(timeout=20)[0].startswith("imported False") and process.returncode == 7
    )


def started(process) -> int:
    """The number of the forked process, once it says it."""
    return [process.stdout.readline() for _ in range(3)][-1].strip()


def test_an_interrupt_is_passed_on(server):
    process = call(server, "sleep")
    started(process)
    process.send_signal(signal.SIGINT)
    assert "interrupted" in process.communicate(timeout=20)[0] and process.returncode == 3


def test_a_fork_does_not_outlive_its_caller(server):
    process = call(server, "sleep")
    fork = Path("/proc") / started(process)
    assert fork.exists()
    process.kill()
    process.communicate()
    for _ in range(100):
        if not fork.exists():
            return
        time.sleep(0.05)
    raise AssertionError("the forked process is still there")


def test_forks_run_side_by_side(server):
    began = [call(server, "sleep") for _ in range(3)]
    assert len({started(process) for process in began}) == 3
    for process in began:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
        assert process.returncode == 128 + signal.SIGTERM
