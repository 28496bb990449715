"""Confines a process that reads what users wrote: it loses access to files, and to the network.

Landlock of Linux does it without privileges.  Source: Linux' Documentation/userspace-api/
landlock.rst.
"""

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

NO_NEW_PRIVILEGES = 38
"""Option of prctl: PR_SET_NO_NEW_PRIVS."""
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""System calls of Landlock; their numbers are the same on all architectures."""
BELOW_PATH = 1
"""Kind of a rule: LANDLOCK_RULE_PATH_BENEATH."""
EXECUTE, READ_FILE, READ_FOLDER = 1 << 0, 1 << 2, 1 << 3

UNSUPPORTED = (
    "this node does not confine processes: its kernel is older than Linux 5.13, has Landlock "
    "disabled, or its container runtime does not permit it"
)


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
    return _version(ctypes.CDLL(None, use_errno=True)) >= 1


def _version(libc: ctypes.CDLL) -> int:
    """Return the version of Landlock; less than 1 without it."""
    return int(libc.syscall(CREATE_RULESET, None, 0, 1))


def confine(*, readable: Iterable[Path] = (), network: bool = False) -> bool:
    """Deny this process files, TCP and signals; return whether the kernel supports that.

    `readable` files and folders can still be read, unless they do not exist.  With `network`,
    TCP stays allowed.  Open files stay open.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    version = _version(libc)
    if version < 1:
        return False
    rights = 13 + sum(version >= since for since in (2, 3, 5))
    net, scoped = (3 if version >= 4 and not network else 0), (3 if version >= 6 else 0)
    rules = _Ruleset((1 << rights) - 1, net, scoped)
    size = 8 + 8 * (version >= 4) + 8 * (version >= 6)
    ruleset = libc.syscall(CREATE_RULESET, ctypes.byref(rules), size, 0)
    if ruleset < 0:
        return False
    for path in readable:
        _allow_reading(libc, ruleset, path)
    return bool(libc.syscall(RESTRICT_SELF, ruleset, 0) == 0)


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
