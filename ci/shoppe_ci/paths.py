"""Paths of the project and of its cache."""

import fcntl
import os
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


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold a lock of the cache folder, between threads and processes.

    Simultaneous runs thus build each thing once.  The lock ends with its process.
    """
    with cache("locks", name).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
