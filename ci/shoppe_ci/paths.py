"""Paths of the project and of its cache."""

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CHARTS = ROOT / "charts"
IMAGES = ROOT / "images"
TOOLCHAIN = ROOT / "ci" / "toolchain"


def cache(*parts: str) -> Path:
    """Return a path in the cache folder (`SHOPPE_CACHE`), and create its parent.

    Everything below it can be rebuilt; `ci/shoppe clean` removes it.
    """
    named = os.environ.get("SHOPPE_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "coffea-shoppe"
    path = (Path(named).resolve() if named else base).joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold a lock of the cache folder, between threads and processes.

    Simultaneous runs thus build each thing once.  The lock ends with its process.
    """
    with cache("locks", name).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def forget_unused(folder: Path, seconds: float) -> None:
    """Remove the folders in a folder that were last used, by their time of change, before that.

    Who uses such a folder sets its time (`os.utime`).
    """
    with locked("unused"):
        for entry in folder.iterdir():
            if time.time() - entry.stat().st_mtime > seconds:
                shutil.rmtree(entry)
