"""Functions that the tests call in processes of their own, which import nothing else."""

import os
import socket
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
