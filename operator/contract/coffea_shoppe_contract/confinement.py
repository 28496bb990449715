"""Confines a process that reads what users wrote: it loses access to files, and to the network.

Landlock takes away files and other processes' memory.  A seccomp filter takes away what Landlock
does not know: sockets of this machine's other processes, which may act for whoever connects; and
new processes, which would outlive this one.  Both need no privileges.  Source: Linux'
Documentation/userspace-api/landlock.rst and seccomp_filter.rst.
"""

import ctypes
import errno
import os
import platform
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

NO_NEW_PRIVILEGES = 38
"""Option of prctl: PR_SET_NO_NEW_PRIVS."""
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""System calls of Landlock; their numbers are the same on all architectures."""
BELOW_PATH = 1
"""Kind of a rule: LANDLOCK_RULE_PATH_BENEATH."""
EXECUTE, READ_FILE, READ_FOLDER = 1 << 0, 1 << 2, 1 << 3

SECCOMP, FILTER_MODE = 22, 2
"""Option of prctl PR_SET_SECCOMP, and its mode SECCOMP_MODE_FILTER."""
LOAD, EQUAL, ANY_BIT, RETURN = 0x20, 0x15, 0x45, 0x06
"""Instructions of a filter (BPF): load a word, jump if equal or if a bit is set, return."""
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16
"""Offsets in `struct seccomp_data`, bytes; of the argument, the lower half."""
PERMIT, KILL, FAIL = 0x7FFF0000, 0x80000000, 0x00050000
"""What a filter returns; an error number is added to FAIL."""
THREAD = 0x00010000
"""Flag of clone for a thread instead of a process: CLONE_THREAD."""
FAMILIES = (socket.AF_INET, socket.AF_INET6, 16)
"""Families of sockets with the network; the last is AF_NETLINK, by which names are resolved."""


@dataclass(frozen=True)
class _Calls:
    """Numbers of system calls on an architecture, and how a filter knows it."""

    architecture: int
    socket: int
    clone: int
    clone3: int
    denied: tuple[int, ...]
    """fork and vfork where they exist, execve, execveat, and io_uring_setup, which opens sockets
    past a filter."""
    other_abi: int = 0
    """Bit of numbers of a second interface, which is denied; 0: there is none."""


_CALLS = {
    "x86_64": _Calls(0xC000003E, 41, 56, 435, (57, 58, 59, 322, 425), 0x40000000),
    "aarch64": _Calls(0xC00000B7, 198, 220, 435, (221, 281, 425)),
}
"""Source: Linux' include/uapi/linux/audit.h and tables of system calls."""

UNSUPPORTED = (
    "this node does not confine processes: its kernel is older than Linux 5.13, has Landlock or "
    "seccomp filters disabled, its container runtime does not permit them, or it is neither x86_64 "
    "nor aarch64"
)


class _Instruction(ctypes.Structure):
    """One instruction of a filter (`struct sock_filter`)."""

    _fields_ = (
        ("code", ctypes.c_uint16),
        ("if_true", ctypes.c_uint8),
        ("if_false", ctypes.c_uint8),
        ("value", ctypes.c_uint32),
    )


class _Filter(ctypes.Structure):
    """A filter (`struct sock_fprog`)."""

    _fields_ = (("length", ctypes.c_uint16), ("instructions", ctypes.POINTER(_Instruction)))


class _Ruleset(ctypes.Structure):
    """Access that is denied unless a rule allows it (`struct landlock_ruleset_attr`)."""

    _fields_ = (("files", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _BelowPath(ctypes.Structure):
    """What a rule allows below a path (`struct landlock_path_beneath_attr`)."""

    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("access", ctypes.c_uint64), ("parent", ctypes.c_int32))


def is_supported() -> bool:
    """Return whether the kernel confines processes; `UNSUPPORTED` says why it may not."""
    libc = ctypes.CDLL(None, use_errno=True)
    return platform.machine() in _CALLS and _version(libc) >= 1 and _has_filters(libc)


def _has_filters(libc: ctypes.CDLL) -> bool:
    """Return whether seccomp takes filters: it then looks for one where there is none."""
    libc.prctl(SECCOMP, FILTER_MODE, None, 0, 0)
    return ctypes.get_errno() == errno.EFAULT


def _version(libc: ctypes.CDLL) -> int:
    """Return the version of Landlock; less than 1 without it."""
    return int(libc.syscall(CREATE_RULESET, None, 0, 1))


def confine(*, readable: Iterable[Path] = (), network: bool = False) -> bool:
    """Deny this thread files, sockets, signals and new processes; return whether that is supported.

    `readable` files and folders can still be read, unless they do not exist.  With `network`,
    IP sockets stay allowed.  Open files stay open, and threads that run already are not confined.
    """
    calls = _CALLS.get(platform.machine())
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    version = _version(libc)
    if version < 1 or calls is None:
        return False
    rights = 13 + sum(version >= since for since in (2, 3, 5))
    net, scoped = (3 if version >= 4 and not network else 0), (3 if version >= 6 else 0)
    rules = _Ruleset((1 << rights) - 1, net, scoped)
    size = 8 + 8 * (version >= 4) + 8 * (version >= 6)
    ruleset = libc.syscall(CREATE_RULESET, ctypes.byref(rules), size, 0)
    if ruleset < 0:
        return False
    try:
        for path in readable:
            _allow_reading(libc, ruleset, path)
        if libc.syscall(RESTRICT_SELF, ruleset, 0):
            return False
    finally:
        os.close(ruleset)
    return _filter_calls(libc, calls, FAMILIES if network else ())


def _filter_calls(libc: ctypes.CDLL, calls: _Calls, families: Iterable[int]) -> bool:
    """Deny this thread system calls, and sockets of other families."""
    fail = FAIL | errno.EPERM

    def case(number: int, *then: tuple[int, int, int, int]) -> list[tuple[int, int, int, int]]:
        return [(EQUAL, 0, len(then), number), *then]

    permitted = [step for family in families for step in case(family, (RETURN, 0, 0, PERMIT))]
    program = [
        (LOAD, 0, 0, ARCHITECTURE),
        (EQUAL, 1, 0, calls.architecture),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
        # No number has no bit, so that nothing is denied without a second interface.
        *((ANY_BIT, 0, 1, calls.other_abi), (RETURN, 0, 0, fail)),
        *(step for number in calls.denied for step in case(number, (RETURN, 0, 0, fail))),
        # The C library then calls clone, of which a filter sees the flags.
        *case(calls.clone3, (RETURN, 0, 0, FAIL | errno.ENOSYS)),
        *case(calls.socket, (LOAD, 0, 0, FIRST_ARGUMENT), *permitted, (RETURN, 0, 0, fail)),
        *case(
            calls.clone,
            (LOAD, 0, 0, FIRST_ARGUMENT),
            (ANY_BIT, 1, 0, THREAD),
            (RETURN, 0, 0, fail),
        ),
        (RETURN, 0, 0, PERMIT),
    ]
    instructions = (_Instruction * len(program))(*(_Instruction(*step) for step in program))
    compiled = _Filter(len(program), instructions)
    return bool(libc.prctl(SECCOMP, FILTER_MODE, ctypes.byref(compiled), 0, 0) == 0)


def _allow_reading(libc: ctypes.CDLL, ruleset: int, path: Path) -> None:
    try:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        access = EXECUTE | READ_FILE | (READ_FOLDER if path.is_dir() else 0)
        rule = _BelowPath(access, parent)
        libc.syscall(ADD_RULE, ruleset, BELOW_PATH, ctypes.byref(rule), 0)
    finally:
        os.close(parent)
