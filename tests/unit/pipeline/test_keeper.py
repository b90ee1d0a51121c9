"""Whichever process of a run is killed, by whichever signal: soon none of it runs, and nothing of it is left.

The tree is a real one: a keeper, a command that starts a lab, the server it is forked from, and the lab's
kernel; only what lab and kernel compute is left out. `make torture` does the same to a real study.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from memgen.pipeline import keeper
from memgen.pipeline.keeper import KEPT, KILLED, below
from memgen.pipeline.report import ENDING, FAILED, FAILURES, Report
from running import ROOT
from torture.kill import MARK, PATIENCE, marked

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it looks for processes in /proc")

#: starts a run: what `memgen labs` does, and what a command like Snakemake's, a lab and its kernel do
PROGRAM = """
import json, os, subprocess, sys, time
from pathlib import Path
from memgen.pipeline.keeper import KILLED, Spec, keep, told_to_end
from memgen.pipeline.warm import FORK, SOCKET

def say(role, pid):
    Path("pids", role).with_suffix(".new").write_text(str(pid))
    Path("pids", role).with_suffix(".new").rename(Path("pids", role))

role, here = sys.argv[1], os.getcwd()
if role == "top":
    program = "from memgen.pipeline.warm import serve; serve(%r, ('memgen.errors',))"
    server = [sys.executable, "-c", program % os.environ[SOCKET]]
    lock = os.open("lock", os.O_CREAT | os.O_RDWR)
    spec = Spec([sys.executable, "program.py", "command"], server, "server.log", lock, ["temporary"])
    with told_to_end(), open("log", "w") as log:
        sys.exit(keep(spec, log, dict(os.environ)))
if role == "command":
    while not os.path.exists(os.environ[SOCKET]):
        time.sleep(0.02)
    lab = subprocess.Popen([*FORK, "program", "lab"])
    say("command", os.getpid()), say("keeper", os.getppid()), say("caller", lab.pid)
    sys.exit(KILLED if lab.wait() else 0)
if role == "lab":
    kernel = subprocess.Popen([*FORK, "program", "kernel"], start_new_session=True)
    say("lab", os.getpid()), say("server", os.getppid()), say("kernel-caller", kernel.pid)
    sys.exit(KILLED if kernel.wait() else 0)
if role == "kernel":
    Path("temporary", "file").write_text("of the run alone")
    say("kernel", os.getpid())
    time.sleep(float(os.environ["SECONDS"]))
"""
VICTIMS = ("top", "keeper", "server", "command", "caller", "lab", "kernel-caller", "kernel")
SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")


class Tree:
    """A run in a folder of its own, in which every process waits for its kernel of so many seconds."""

    def __init__(self, folder: Path, seconds: float = 60, ignored: int | None = None):
        self.folder = folder
        for name in ("pids", "temporary"):
            (folder / name).mkdir(parents=True)
        (folder / "program.py").write_text(PROGRAM)
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT / "src"),
            "MEMGEN_WARM": str(folder / "socket"),
            "SECONDS": str(seconds),
            MARK: str(folder),
        }

        def hear():
            for name in SIGNALS[2:]:  # whoever runs the tests may ignore them
                number = getattr(signal, name)
                signal.signal(number, signal.SIG_IGN if number == ignored else signal.SIG_DFL)

        self.top = subprocess.Popen(
            [sys.executable, "program.py", "top"],
            cwd=folder,
            env=environment,
            stderr=subprocess.DEVNULL,
            preexec_fn=hear,
        )

    def process(self, role: str, seconds: float = 60) -> int:
        """Its number, once it is there."""
        until, said = time.monotonic() + seconds, self.folder / "pids" / role
        while role != "top" and not said.exists():
            assert time.monotonic() < until and self.top.poll() is None, f"no {role}"
            time.sleep(0.02)
        return self.top.pid if role == "top" else int(said.read_text())

    def gone(self) -> bool:
        """Is it, within the time that it has?"""
        until = time.monotonic() + PATIENCE
        while (self.top.poll() is None or marked(str(self.folder))) and time.monotonic() < until:
            time.sleep(0.05)
        return self.top.poll() is not None and not marked(str(self.folder))


@pytest.mark.parametrize("name", SIGNALS)
def test_a_run_ends_whole_with_any_of_its_processes(tmp_path, name):
    trees = {victim: Tree(tmp_path / victim) for victim in VICTIMS}
    for victim, tree in trees.items():
        tree.process("kernel")
        os.kill(tree.process(victim), getattr(signal, name))
    stayed = [victim for victim, tree in trees.items() if not tree.gone()]
    assert not stayed
    left = [v for v, tree in trees.items() if (tree.folder / "temporary").exists()]
    # who ends the keeper removes what it would have removed: `run_labs`
    assert left in ([], ["keeper"])
    assert all(tree.top.returncode != 0 for tree in trees.values())


def test_an_undisturbed_run_ends_as_its_command_does(tmp_path):
    tree = Tree(tmp_path, seconds=0)
    assert tree.top.wait(60) == 0 and tree.gone()
    assert not (tmp_path / "temporary").exists()


def test_a_run_goes_on_where_the_signal_is_ignored(tmp_path):
    """As under nohup: the terminal's end is not the study's."""
    tree = Tree(tmp_path, ignored=signal.SIGHUP)
    tree.process("kernel")
    for victim in ("top", "keeper"):
        os.kill(tree.process(victim), signal.SIGHUP)
    time.sleep(0.5)
    assert tree.top.poll() is None
    tree.top.kill()
    assert tree.gone()


def test_a_process_that_left_its_parent_and_its_session_ends_too(tmp_path):
    """What a lab starts and forgets; the kernel of Linux hands it to the keeper."""
    daemon = (
        "import os, time\nif os.fork(): time.sleep(0.2), os._exit(0)\n"
        "os.setsid()\nif os.fork(): os._exit(0)\ntime.sleep(60)"
    )
    spec = keeper.Spec([sys.executable, "-c", daemon], [], "", 1, [str(tmp_path / "made")])
    (tmp_path / "made").mkdir()
    environment = {**os.environ, MARK: str(tmp_path)}
    with open(tmp_path / "log", "w") as log:
        assert keeper.keep(spec, log, environment) == 0
    assert not marked(str(tmp_path)) and not (tmp_path / "made").exists()


def test_processes_are_found_on_systems_without_proc():
    child = subprocess.Popen(["sleep", "60"])
    try:
        for found in (keeper._from_proc(), keeper._from_ps()):
            assert found[child.pid] == (os.getpid(), os.getpgrp())
        assert child.pid in below(os.getpid())
    finally:
        child.kill()
        child.wait()


@pytest.mark.slow
def test_a_lab_alone_and_its_kernel_end_together(tmp_path):
    """`make lab`: papermill without a study around it."""
    source = "import os, time; open('pid.new', 'w').write(str(os.getpid()))\n"
    source += "os.rename('pid.new', 'pid'); time.sleep(60)"
    about = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    cell = {"cell_type": "code", "id": "a", "metadata": {}, "source": source}
    cell |= {"execution_count": None, "outputs": []}
    notebook = {"cells": [cell], "metadata": about, "nbformat": 4, "nbformat_minor": 5}
    started = {}
    for victim in ("papermill", "kernel"):
        folder = tmp_path / victim
        folder.mkdir()
        (folder / "a.ipynb").write_text(json.dumps(notebook))
        started[victim] = subprocess.Popen(
            [sys.executable, "-m", "papermill", "a.ipynb", "b.ipynb", "--no-progress-bar"],
            cwd=folder,
            env={**os.environ, MARK: str(folder)},
            stderr=subprocess.DEVNULL,
        )
    for victim, process in started.items():
        while not (tmp_path / victim / "pid").exists():
            assert process.poll() is None
            time.sleep(0.1)
        kernel = int((tmp_path / victim / "pid").read_text())
        os.kill(kernel if victim == "kernel" else process.pid, signal.SIGKILL)
    for victim, process in started.items():
        assert process.wait(PATIENCE) != 0
        until = time.monotonic() + PATIENCE
        while marked(str(tmp_path / victim)) and time.monotonic() < until:
            time.sleep(0.1)
        assert not marked(str(tmp_path / victim))


SNAKEFILE = """
import os
from pathlib import Path
from snakemake.logging import logger
from memgen.pipeline.report import Report
logger.addHandler(Report(Path(os.getcwd())))
rule all:
    input: "inference/seed0/02_training.stamp"
rule training:
    output: "inference/seed0/02_training.stamp"
    log: "inference/seed0/02_training.log"
    shell: "exec sleep 60 > {log}"
"""


@pytest.mark.parametrize("victim, name", [("snakemake", "SIGTERM"), ("sleep 60", "SIGKILL")])
def test_snakemake_does_not_wait_for_a_lab(tmp_path, victim, name):
    """It would finish the labs that run when it is told to end, and start others when one is killed."""
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--keep-going"]
    spec = keeper.Spec(command, [], "", 1, [])
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), MARK: str(tmp_path)}
    process = subprocess.Popen(
        spec.keeper(), cwd=tmp_path, env=environment, stdin=subprocess.PIPE, start_new_session=True
    )
    found = {}
    while "sleep 60" not in found:
        assert process.poll() is None
        time.sleep(0.1)
        for pid in below(process.pid):
            said = (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            found["snakemake" if "-m snakemake" in said else said.strip()] = pid
    os.kill(found[victim], getattr(signal, name))
    assert process.wait(PATIENCE) == KILLED and not marked(str(tmp_path))
    if victim == "sleep 60":
        said = (tmp_path / FAILURES).read_text()
        assert "02_training, inference, seed0: ended from outside" in said


@pytest.mark.parametrize(
    "log, kept, status", [("", True, KILLED), ("", False, 0), (f"text{FAILED}its reason", True, 0)]
)
def test_a_lab_that_says_why_it_failed_stops_no_other(tmp_path, log, kept, status):
    (tmp_path / "task" / "seed0").mkdir(parents=True)
    stamp = "task/seed0/02_training.stamp"
    (tmp_path / stamp).with_suffix(".log").write_text(log)
    record = logging.makeLogRecord({"event": "job_error", "jobid": 1, "output": [stamp]})
    assert ended_by(tmp_path, record, kept) == status
    assert ("its reason" if log else "ended from outside") in (tmp_path / FAILURES).read_text()


@pytest.mark.parametrize("said", ENDING)
def test_a_snakemake_that_is_told_to_end_does_so_under_a_keeper_alone(tmp_path, said):
    record = logging.makeLogRecord({"msg": f"{said} and more"})
    assert ended_by(tmp_path, record, True) == KILLED and ended_by(tmp_path, record, False) == 0


def ended_by(home: Path, record: logging.LogRecord, kept: bool) -> int:
    """Exit status of a process in which the report takes this record, and which then ends with 0."""
    pid = os.fork()
    if not pid:
        try:
            os.environ.pop(KEPT, None)
            os.environ.update({KEPT: "1"} if kept else {})
            Report(home).emit(record)
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
