"""Plugins of Dask by which workers and schedulers import a user's own packages."""

import importlib
import io
import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

from distributed import Scheduler, SchedulerPlugin, Worker, WorkerPlugin

NAME = "coffea-shoppe-packages"

_paths: list[str] = []
"""Of the archive that this process imports from."""


def use(archive: bytes) -> None:
    """Import from an archive first: from its folder `installed`, and those below `sources`.

    It replaces an earlier archive: modules from that one are imported again.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"{NAME}-"))
    with zipfile.ZipFile(io.BytesIO(archive)) as content:
        content.extractall(folder)
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None) or ""
        if any(file.startswith(f"{path}{os.sep}") for path in _paths):
            del sys.modules[name]
    earlier = list(_paths)
    _paths[:] = [*sorted(str(path) for path in (folder / "sources").glob("*"))]
    _paths.append(str(folder / "installed"))
    sys.path[:] = _paths + [path for path in sys.path if path not in earlier]
    importlib.invalidate_caches()
    if earlier:
        shutil.rmtree(Path(earlier[-1]).parent, ignore_errors=True)


class WorkerPackages(WorkerPlugin):
    """A worker that imports from an archive, before its first task."""

    name = NAME

    def __init__(self, archive: bytes) -> None:
        self.archive = archive

    def setup(self, worker: Worker) -> None:
        """Import from the archive."""
        use(self.archive)


class SchedulerPackages(SchedulerPlugin):
    """A scheduler that imports from an archive: it reads graphs of tasks, too."""

    name = NAME

    def __init__(self, archive: bytes) -> None:
        self.archive = archive

    async def start(self, scheduler: Scheduler) -> None:
        """Import from the archive."""
        use(self.archive)
