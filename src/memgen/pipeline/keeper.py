"""Keep the processes of one run together: whichever of them is killed, none outlives the others.

    python keeper.py SPEC    starts what `Spec` (as JSON) names, and ends with the exit status of its command

It ends everything below it, with SIGKILL and within moments, and removes what the run alone needed,
as soon as its standard input is closed (who started it has gone, or wants the end), a signal tells it
to, or one of its processes ends. Nothing is lost by that: what is finished was put in place by a rename.

On Linux the kernel hands it every process that has lost its parent, so it finds all of them, and they
get SIGKILL if the keeper itself is killed. Elsewhere it finds those of its own process group, which its
starter ends if the keeper is killed. Run by path and of the standard library alone, to start at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TextIO

#: set in the environment of every process that a keeper keeps
KEPT = "MEMGEN_KEPT"
#: signals that ask a process to end, as far as the system knows them
ENDING = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]
#: exit status, as a shell says it, of what was killed
KILLED = 128 + 9
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
#: seconds within which killed processes have to be gone, and those that the last command has
_PATIENCE, _LAST = 8.0, 60.0


@dataclass
class Spec:
    """What a keeper starts and leaves behind.

    `command`: its end is the end. `server`: a command that runs beside it as long as its standard
    input is open (or empty), its text goes to `server_log`. `lock`: a descriptor that both hold.
    `remove`: paths that are removed in the end. `last`: a command that is run when nothing else of it
    runs any more (or empty): it ends what works for this run on other machines.
    """

    command: list[str]
    server: list[str]
    server_log: str
    lock: int
    remove: list[str]
    last: list[str] = field(default_factory=list)

    def keeper(self) -> list[str]:
        """The command that starts a keeper of it."""
        return [sys.executable, "-I", "-S", __file__, json.dumps(asdict(self))]


def keep(spec: Spec, log: TextIO, environment: dict[str, str]) -> int:
    """Run what is named under a keeper; returns its exit status, `KILLED` if anything was killed.

    Whatever is raised meanwhile, nothing of it runs any more when this function is left.
    """
    keeper = subprocess.Popen(
        spec.keeper(),
        stdin=subprocess.PIPE,  # closed when this process ends, however it does
        stderr=log,
        env=environment,
        pass_fds=(spec.lock,),  # the lock lasts until nothing of the run is left
        start_new_session=True,
    )
    try:
        code = keeper.wait()
        return KILLED if code < 0 else code
    finally:
        keeper.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            keeper.wait(_PATIENCE + 1 + (_LAST if spec.last else 0))
        until = time.monotonic() + _PATIENCE
        with contextlib.suppress(OSError):  # nobody is left, at once unless the keeper was killed
            while time.monotonic() < until:
                os.killpg(keeper.pid, signal.SIGKILL)
                time.sleep(0.02)


@contextlib.contextmanager
def told_to_end() -> Iterator[None]:
    """Inside, every signal that asks this process to end is a `KeyboardInterrupt` with its number."""

    def end(number: int, frame: object) -> None:
        raise KeyboardInterrupt(number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        # what is ignored (SIGHUP under nohup, Ctrl-C in the background) stays so
        heard = [n for n in ENDING if signal.getsignal(n) is not signal.SIG_IGN]
        before = {number: signal.signal(number, end) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with_signals() -> None:
    """Let every signal that asks this process to end do so at once, unless it was told to ignore it."""
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def end_with(parent: int) -> None:
    """Have this process, just forked from `parent`, killed when that one ends; on Linux only."""
    if sys.platform == "linux":
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before the kernel knew
            os._exit(KILLED)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


class Keeper:
    """One run's processes. `wait` ends when they have to."""

    def __init__(self, spec: Spec):
        self.spec, self.pid = spec, os.getpid()
        if sys.platform == "linux":
            _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self.woken = _wake_by_signals()
        self.command: subprocess.Popen | None = None
        self.server: subprocess.Popen | None = None

    def start(self) -> None:
        """Start the server, if there is one, and the command."""
        os.environ[KEPT] = "1"
        if self.spec.server:
            with open(self.spec.server_log, "w") as log:
                self.server = self._start(
                    self.spec.server, stdin=subprocess.PIPE, stdout=log, stderr=log
                )
        self.command = self._start(
            self.spec.command, stdin=subprocess.DEVNULL, pass_fds=(self.spec.lock,)
        )

    def _start(self, argv: list[str], **streams) -> subprocess.Popen:
        return subprocess.Popen(argv, preexec_fn=lambda: end_with(self.pid), **streams)

    def wait(self) -> int:
        """The exit status of the command, or what a shell says of one that was killed."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.woken, selectors.EVENT_READ)
            selector.register(0, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fd == 0 and not os.read(0, 1024):
                        return KILLED
                    if key.fd == self.woken and set(os.read(self.woken, 1024)) & {*ENDING}:
                        return KILLED
                for pid, status in ended():  # what has lost its parent as well
                    if pid == self.command.pid:
                        return status
                    if self.server and pid == self.server.pid:
                        return KILLED

    def end(self) -> None:
        """End all that runs still, here and elsewhere; then remove what the run alone needed."""
        until = time.monotonic() + _PATIENCE
        while (left := below(self.pid)) and time.monotonic() < until:
            for pid in left:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
            list(ended())
        if self.spec.last:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                subprocess.run(self.spec.last, stdin=subprocess.DEVNULL, timeout=_LAST)
        remove(self.spec.remove)


def remove(paths: list[str]) -> None:
    """Remove folders with all that is in them; what is not there is no error."""
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)


def _wake_by_signals() -> int:
    """A descriptor from which the number of every signal can be read that comes from now on."""
    woken, waker = os.pipe()
    for end in (woken, waker):
        os.set_blocking(end, False)
    for number in (*ENDING, signal.SIGCHLD):
        if signal.getsignal(number) is not signal.SIG_IGN:  # such as SIGHUP under nohup
            signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(waker)
    return woken


def ended():
    """`(process, exit status as a shell says it)` of every child that has ended."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        code = os.waitstatus_to_exitcode(status)
        yield pid, code if code >= 0 else 128 - code


def below(top: int) -> list[int]:
    """The numbers of all processes that descend from `top`, or are of the group that it leads."""
    found, known = [], {top}
    processes = _from_proc() if os.path.isdir("/proc/self") else _from_ps()
    while True:
        new = [
            pid
            for pid, (parent, group) in processes.items()
            if pid not in known and (parent in known or group == top)
        ]
        if not new:
            return found
        found += new
        known.update(new)


def _from_proc() -> dict[int, tuple[int, int]]:
    """`{process: (parent, group)}` of all processes, as the kernel of Linux shows them."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # number (name) state parent group; a name may hold spaces and brackets
                _, parent, group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
                found[int(entry.name)] = (int(parent), int(group))
    return found


def _from_ps() -> dict[int, tuple[int, int]]:
    """The same on other systems, by the command that POSIX has for it."""
    command = ["ps", "-A", "-o", "pid=,ppid=,pgid="]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        lines = [[int(word) for word in line.split()] for line in process.stdout]
    return {pid: (parent, group) for pid, parent, group in lines if pid != process.pid}


def main(spec: Spec) -> int:
    """Keep what is named until it has to end; returns the exit status."""
    keeper = Keeper(spec)
    try:
        keeper.start()
        return keeper.wait()
    finally:
        keeper.end()


if __name__ == "__main__":
    sys.exit(main(Spec(**json.loads(sys.argv[1]))))
