"""Functions that the tests call in processes of their own, which import nothing else."""

import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from coffea_shoppe_servicex.errors import QueryError, TransformError, UnreadableError


def environment() -> list[str]:
    return sorted(os.environ)


def read(path: str) -> str:
    return Path(path).read_text()


def denied(path: str) -> bool:
    """Return whether a file cannot be read, nor written."""
    for mode in "r", "a":
        try:
            with Path(path).open(mode):
                return False
        except PermissionError:
            continue
    return True


def allocate(mebibytes: int) -> int:
    return len(bytearray(mebibytes * 2**20))


def wait(seconds: float) -> str:
    time.sleep(seconds)
    return "done"


def end(code: int) -> None:
    os._exit(code)


def fail(kind: str) -> None:
    errors: dict[str, Callable[[], Exception]] = {
        "query": lambda: QueryError("no such thing"),
        "transform": lambda: TransformError("MissingTree", "it has no tree"),
        "unreadable": lambda: UnreadableError("BadFile", "it is cut short"),
        "other": lambda: KeyError("met"),
    }
    raise errors[kind]()


def resolve(host: str) -> bool:
    """Return whether TCP is possible: a refused connection is an attempt."""
    try:
        socket.create_connection((host, 9), timeout=5)
    except ConnectionRefusedError:
        return True
    return False


def open_files() -> int:
    """Return how many files are open, beyond standard input, output and error."""
    return sum(_is_open(descriptor) for descriptor in range(3, 1024))


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _outcome(action: Callable[[], object]) -> str:
    try:
        action()
    except OSError as error:
        return type(error).__name__
    return "done"


def connect(address: str) -> str:
    """Return how a connection to a socket of another process of this machine ended."""

    def connected() -> None:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(address)

    return _outcome(connected)


def start_processes() -> list[str]:
    """Return how a fork, a program and a thread started."""

    def fork() -> None:
        if not (pid := os.fork()):
            os._exit(0)
        os.waitpid(pid, 0)

    def program() -> None:
        os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)

    def thread() -> None:
        started = threading.Thread(target=int)
        started.start()
        started.join()

    return [_outcome(action) for action in (fork, program, thread)]
