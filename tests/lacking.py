"""A process without file locks: its kernel refuses them, for itself and its children.

    python tests/lacking.py flock COMMAND...    run a command on a machine without file locks

It asks the kernel of Linux (seccomp) to answer one system call with an error, as a network disk without
a server of locks does; nothing in Python is replaced, so it holds for every process of a run.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys

#: numbers of the call `flock`, by processor. Source: the kernel's tables of system calls
FLOCK = {"x86_64": 73, "aarch64": 32}
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _FILTER = 38, 22, 2
_LOAD, _IF_EQUAL, _RETURN = 0x20, 0x15, 0x06  # of the kernel's packet filter
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000


def refuse(call: int, code: int) -> None:
    """From now on this system call fails with the error `code`, here and in every child.

    `OSError`: this kernel takes no such order.
    """
    steps = [(_LOAD, 0, 0, 0), (_IF_EQUAL, 0, 1, call), (_RETURN, 0, 0, _ERROR | code)]
    steps.append((_RETURN, 0, 0, _ALLOW))
    packed = b"".join(struct.pack("HBBI", *step) for step in steps)
    filters = ctypes.create_string_buffer(packed, len(packed))
    program = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(filters))
    libc = ctypes.CDLL(None, use_errno=True)
    given = ctypes.create_string_buffer(program, len(program))
    for options in ((_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (_PR_SET_SECCOMP, _FILTER, given, 0, 0)):
        if libc.prctl(*options):
            raise OSError(ctypes.get_errno(), "the kernel takes no filter of system calls")


def refuse_locks() -> None:
    """No file locks from now on, for this process and its children."""
    refuse(FLOCK[platform.machine()], errno.ENOLCK)


if __name__ == "__main__":
    refuse_locks()
    os.execvp(sys.argv[2], sys.argv[2:])
