"""Runs what touches users' files and hosts in a process of its own, without keys.

The process is forked from one that has nothing in memory but libraries.  Its environment is
empty, it reads no files but those of programs, and memory and time are limited.  What it sends
back is JSON: a process that a file has taken over can send nothing that is executed.
"""

import ctypes
import json
import logging
import multiprocessing
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from coffea_shoppe_contract.confinement import UNSUPPORTED, confine, is_supported

from coffea_shoppe_servicex.errors import QueryError, TransformError, UnreadableError

LOG = logging.getLogger(__name__)
RETAINED = ("CURL_CA_BUNDLE", "LANG", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE", "TZ")
"""Variables that remain in the environment: they name certificates, and no secrets."""
PROGRAMS = (
    *("/usr", "/lib", "/lib64", "/bin", "/etc/ssl", "/etc/pki", "/etc/ca-certificates"),
    *("/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/nsswitch.conf", "/etc/gai.conf"),
    *(
        "/etc/grid-security/certificates",
        "/etc/xrootd",
        "/etc/services",
        "/etc/protocols",
        "/etc/passwd",
        "/etc/group",
        "/etc/localtime",
    ),
    *("/etc/ld.so.cache", "/dev/null", "/dev/urandom", "/dev/random"),
)
"""What a confined process may read, in addition to Python's modules."""
LARGEST_MESSAGE = 64 * 2**20
"""Bytes of JSON, as of the names of a quarter of a million files."""
MALLOC_ARENAS = -8
"""Parameter of mallopt: M_ARENA_MAX."""

_methods = multiprocessing.get_context("forkserver")
_starting = threading.Lock()
_preloaded: dict[str, None] = {}


@dataclass
class _Policy:
    """What applies to all calls of this process."""

    require_landlock: bool = True
    """Whether calls are refused where the kernel does not confine them."""


_policy = _Policy()
REMEDY = (
    "run ServiceX' API and controller on nodes with Landlock, or set servicex.requireLandlock to "
    "false: then users' files are opened with access to the pod's keys"
)


@dataclass(frozen=True)
class Limits:
    """Limits of one call."""

    seconds: float
    memory_mib: int
    """Address space that the call may add to that of the loaded libraries."""
    readable: Sequence[Path] = field(default=())
    """Files and folders that the call may read, in addition to those of programs."""
    confined: bool = True
    """False: it may read all files, as those of this machine's only user."""


class TooLongError(TransformError):
    """A call that did not end in time."""

    def __init__(self, seconds: float) -> None:
        super().__init__("TooSlow", f"it took longer than {seconds:g} s")


def preload(modules: Iterable[str]) -> None:
    """Name further modules that processes have loaded already; before the first call."""
    _preloaded.update(dict.fromkeys(modules))
    _methods.set_forkserver_preload(list(_preloaded))


def configure(*, require_landlock: bool) -> None:
    """Set whether calls must be confined, and log if the kernel cannot do it."""
    _policy.require_landlock = require_landlock
    if is_supported():
        return
    if require_landlock:
        LOG.error("look-ups and estimates are refused, because %s: %s", UNSUPPORTED, REMEDY)
    else:
        LOG.warning("look-ups and estimates can read this pod's keys, because %s", UNSUPPORTED)


def call(function: Callable[..., Any], *arguments: Any, limits: Limits) -> Any:
    """Return what a module's function returns, called in a process of its own, by way of JSON.

    Raises `QueryError`, `UnreadableError` and `TransformError` as the function does, and
    `TransformError` for any other end: TooSlow, OutOfMemory, Crashed, or NotConfined.
    """
    receiver, sender = _methods.Pipe(duplex=False)
    sent = function, arguments, limits, _policy, sender
    process = _methods.Process(target=_run, args=sent, daemon=True)
    with _starting:
        process.start()
    sender.close()
    try:
        if not receiver.poll(limits.seconds):
            raise TooLongError(limits.seconds)
        result = json.loads(receiver.recv_bytes(LARGEST_MESSAGE))
        if not isinstance(result, dict):
            raise ValueError("the result is not an object")
    except (EOFError, OSError, ValueError) as error:
        process.join(5)
        raise _crash(process.exitcode, limits) from error
    finally:
        process.kill()
        process.join(5)
        receiver.close()
    if "value" in result:
        return result["value"]
    raise _error(result)


def _error(result: dict[str, Any]) -> Exception:
    """Return the exception that a process has sent."""
    kind, reason, message = (str(result.get(key)) for key in ("kind", "reason", "message"))
    if kind == "query":
        return QueryError(message)
    return (UnreadableError if kind == "unreadable" else TransformError)(reason, message)


def _crash(exit_code: int | None, limits: Limits) -> TransformError:
    if exit_code == -signal.SIGKILL:
        return _out_of_memory(limits)
    return TransformError("Crashed", f"its process ended without a result (exit code {exit_code})")


def _out_of_memory(limits: Limits) -> TransformError:
    message = f"it takes more than {limits.memory_mib} MiB of memory"
    return TransformError("OutOfMemory", message)


def _run(
    function: Callable[..., Any],
    arguments: Sequence[Any],
    limits: Limits,
    policy: _Policy,
    channel: Connection,
) -> None:
    """Call a function in the current process, send its result and exit."""
    # Those of the process that this one was forked from would let it act for that one.
    used = channel.fileno()
    os.closerange(3, used)
    os.closerange(used + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    for name in os.environ.keys() - set(RETAINED):
        del os.environ[name]
    result: dict[str, Any]
    try:
        if not _limit(limits) and policy.require_landlock:
            raise TransformError("NotConfined", f"{UNSUPPORTED}; {REMEDY}")
        result = {"value": function(*arguments)}
    except MemoryError:
        error = _out_of_memory(limits)
        result = {"kind": "", "reason": error.reason, "message": str(error)}
    except QueryError as error:
        result = {"kind": "query", "reason": "BadQuery", "message": str(error)}
    except TransformError as error:
        kind = "unreadable" if isinstance(error, UnreadableError) else ""
        result = {"kind": kind, "reason": error.reason, "message": str(error)}
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        result = {"kind": "", "reason": "Failed", "message": message[:1000]}
    channel.send_bytes(json.dumps(result).encode())
    channel.close()
    # Threads of XRootD's client may keep the process from ending by itself.
    os._exit(0)


def _limit(limits: Limits) -> bool:
    """Give up files, and limit memory, CPU time and core dumps.

    Returns whether the files that the call may read are limited as they must be.
    """
    # Each thread of a client would reserve an arena of its own.
    ctypes.CDLL(None).mallopt(MALLOC_ARENAS, 1)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    memory = pages * os.sysconf("SC_PAGE_SIZE") + limits.memory_mib * 2**20
    seconds = int(limits.seconds) + 1
    for limited, largest in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limited, (largest, largest))
    if not limits.confined:
        return True
    modules = (sys.prefix, sys.base_prefix, *filter(os.path.isabs, sys.path))
    return confine(readable=[*map(Path, (*PROGRAMS, *modules)), *limits.readable], network=True)
