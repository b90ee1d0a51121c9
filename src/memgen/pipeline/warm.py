"""Start Python processes that have already imported what every lab imports.

Papermill and its kernel would each import torch and transformers for several seconds (running the
cells inside papermill would save only one). One server imports them, and every further process is a
fork of it:

    python warm.py serve SOCKET MODULE...   the server; it lives as long as its standard input is open
    python warm.py MODULE ARGUMENTS...      like `python -m MODULE ARGUMENTS...`, forked from the server
                                            that MEMGEN_WARM names

Without a server the second form *is* `python -m`. It is run by path and uses the standard library
alone, to start in milliseconds. A forked process has the caller's arguments, folder, environment
and streams; signals are passed on; it ends with its caller and with the server, and its caller with
it, with the same exit status. A caller ends when its own parent has gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shlex
import signal
import socket
import struct
import sys
from collections.abc import Callable, Iterable, Sequence

SOCKET = "MEMGEN_WARM"
#: `python -m`, as a fork of the server where there is one
FORK = (sys.executable, "-I", "-S", __file__)
#: the same for the command that runs one job of a study, as a shell takes it
RUN = shlex.join([*FORK, "memgen.pipeline.cli"])
#: what every lab imports. Not `memgen.pipeline.cli`: it is run as a program
PRELOADED = (
    "papermill",
    "ipykernel.kernelapp",
    "ipykernel.zmqshell",
    "matplotlib.pyplot",
    "matplotlib_inline",
    "pyarrow.parquet",
    "scipy.stats",
    "sklearn.linear_model",
    "sklearn.preprocessing",
    "sklearn.feature_extraction.text",
    "transformers.models.auto.modeling_auto",
    "transformers.models.gpt2.modeling_gpt2",
    "memgen.pipeline.base_job",
    "memgen.pipeline.notebook",
)
#: seconds between two looks at whether a caller's parent is still there
LOOK = 0.5
#: signals that are passed on, as far as the system knows them
FORWARDED = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]


def run(argv: list[str]) -> int:
    """Run `python -m argv...` as a fork of the server; returns its exit status."""
    parent = os.getppid()
    try:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(os.environ[SOCKET])
    except (KeyError, OSError):
        os.execv(sys.executable, [sys.executable, "-m", *argv])
    # what comes before there is somebody to pass it on to waits
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    wanted = json.dumps({"argv": argv, "cwd": os.getcwd(), "env": dict(os.environ)}).encode()
    with contextlib.suppress(OSError):  # the server has gone: nothing will be read either
        socket.send_fds(connection, [struct.pack("!I", len(wanted))], [0, 1, 2])
        connection.sendall(wanted)
    connection.settimeout(LOOK)
    pid = int(_line(connection, parent) or 0)
    if not pid:
        return 1
    for number in FORWARDED:
        signal.signal(number, lambda number, frame: _signal(pid, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    status = _line(connection, parent)
    return int(status) if status else 1


def _line(connection: socket.socket, parent: int) -> bytes:
    """The bytes up to the next line end, or none if the other side or the parent has gone."""
    found = b""
    while not found.endswith(b"\n"):
        try:
            part = connection.recv(1)
        except TimeoutError:
            part = None
        except OSError:  # the server was killed before it had read all
            part = b""
        if part == b"" or os.getppid() != parent:
            return b""
        found += part or b""
    return found


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def serve(path: str, preloaded: Sequence[str] = PRELOADED) -> None:
    """Import, listen, fork. Ends, and with it all that it forked, when standard input is closed."""
    import importlib

    from memgen.pipeline.keeper import end_with, ended  # a caller, run by path, could not import it

    signal.signal(signal.SIGINT, signal.SIG_DFL)  # it ends the server, as other signals do
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen(64)  # callers that come while the imports go on wait for them
    for name in preloaded:
        with contextlib.suppress(Exception):  # a lab whose module is broken says so itself
            importlib.import_module(name)
    waker, woken = socket.socketpair()
    woken.setblocking(False)
    waker.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker.fileno())
    running: dict[int, socket.socket] = {}  # process -> its caller
    with selectors.DefaultSelector() as selector:
        for source in (server, woken, sys.stdin):
            selector.register(source, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is sys.stdin:
                    if not os.read(0, 1024):
                        _kill(running)
                        return
                elif key.fileobj is server:
                    caller = server.accept()[0]
                    inherited = [server, waker, woken, selector, *running.values()]
                    pid = _fork(caller, inherited, end_with)
                    if not pid:
                        caller.close()
                        continue
                    running[pid] = caller
                    selector.register(caller, selectors.EVENT_READ)
                    with contextlib.suppress(OSError):  # it has gone, as the next look shows
                        caller.sendall(b"%d\n" % pid)
                elif key.fileobj is woken:
                    woken.recv(1024)
                    for pid, status in ended():
                        caller = running.pop(pid)
                        selector.unregister(caller)
                        with contextlib.suppress(OSError), caller:
                            caller.sendall(b"%d\n" % status)
                else:  # the caller has gone
                    _kill([pid for pid, caller in running.items() if caller is key.fileobj])


def _kill(pids: Iterable[int]) -> None:
    for pid in pids:
        _signal(pid, signal.SIGKILL)


def _wanted(caller: socket.socket) -> tuple[bytes, list[int]]:
    """What a caller asks for, and its streams; nothing if it was killed before it had said all."""
    body, length, streams = b"", 0, []
    with contextlib.suppress(OSError):
        head, streams, _, _ = socket.recv_fds(caller, 4, 3)
        length = struct.unpack("!I", head)[0] if len(head) == 4 else 0
        while len(body) < length and (part := caller.recv(length - len(body))):
            body += part
    return (body if len(body) == length else b""), streams


def _fork(caller: socket.socket, inherited: list, end_with: Callable[[int], None]) -> int:
    """Receive what is wanted and become it; the server gets the process number back, or 0.

    `inherited`: the server's, closed in the fork, which calls `end_with` to end with the server.
    """
    (body, streams), parent = _wanted(caller), os.getpid()
    pid = os.fork() if body else 0
    if pid or not body:
        for stream in streams:
            os.close(stream)
        return pid
    status = 1
    try:
        end_with(parent)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for one in (caller, *inherited):
            one.close()
        os.setsid()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        status = _become(json.loads(body))
    finally:
        os._exit(status)


def _become(wanted: dict) -> int:
    """Do what `python -m` does, in this process; returns the exit status."""
    import runpy
    import traceback

    os.chdir(wanted["cwd"])
    os.environ.clear()
    os.environ.update(wanted["env"])
    sys.argv = wanted["argv"]
    if not sys.flags.safe_path:  # else there is no place for the folder
        sys.path[0] = wanted["cwd"]
    status = 0
    try:
        runpy.run_module(wanted["argv"][0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except KeyboardInterrupt:
        status = 130
    except BaseException:
        traceback.print_exc()
        status = 1
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    return status


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], [*PRELOADED, *sys.argv[3:]])
    else:
        sys.exit(run(sys.argv[1:]))
