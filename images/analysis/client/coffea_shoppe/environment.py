"""The packages that a user has installed beyond the image, for the workers of a Dask cluster.

What `pip install` puts into the home, and the sources of what `pip install -e` has in development,
are sent to the cluster as one archive.  Its workers and its scheduler put them before the image's
packages, as the notebook does.
"""

import hashlib
import io
import json
import os
import site
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from coffea_shoppe.extras import extra

if TYPE_CHECKING:
    from distributed import Client

LIMIT_MB = 200
IGNORED = {"__pycache__", ".git", ".venv", "node_modules", ".ipynb_checkpoints", ".pytest_cache"}


def share_environment(client: "Client | None" = None) -> list[str]:
    """Give a Dask cluster the packages that this user has installed beyond the image.

    `client` is connected to the cluster; without one it is the one that was made last.  The
    scheduler and all workers have the packages when the call returns, and workers that start
    later have them from the start.  After a change, call it again: the cluster then imports the
    modules of an earlier call again.

    Returns the packages, NAME VERSION.  Raises `ValueError` where they have more than 200 MB, and
    names the largest.
    """
    with extra("dask", user="share_environment()"):
        from distributed import get_client

        from coffea_shoppe.shared_packages import SchedulerPackages, WorkerPackages
    packages = _installed()
    archive = _archive(packages)
    client = client or get_client()
    client.register_plugin(SchedulerPackages(archive))
    client.register_plugin(WorkerPackages(archive))
    return sorted(package.label for package in packages)


@dataclass(frozen=True)
class Package:
    """A distribution in the user's home."""

    label: str
    files: tuple[tuple[Path, str], ...]
    """Each file, and its path in the archive."""


def _installed() -> list[Package]:
    """Return the distributions of the user's own site-packages."""
    folder = Path(site.getusersitepackages())
    packages = []
    for distribution in distributions(path=[str(folder)]):
        label = f"{distribution.name} {distribution.version}"
        source = _source(distribution)
        files = _source_files(source) if source else _files(distribution, folder)
        packages.append(Package(label, tuple(files)))
    return packages


def _source(distribution: Distribution) -> Path | None:
    """Return the folder of a project in development; None for one that is installed."""
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    if not origin.get("dir_info", {}).get("editable"):
        return None
    folder = Path(unquote(urlsplit(origin["url"]).path))
    # Modules are imported from the folder `src`, where a project has one.
    return folder / "src" if (folder / "src").is_dir() else folder


def _source_files(folder: Path) -> Iterator[tuple[Path, str]]:
    name = hashlib.sha256(str(folder).encode()).hexdigest()[:8]
    for path, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in IGNORED]
        for file in files:
            source = Path(path, file)
            if source.is_file():
                yield source, f"sources/{name}/{source.relative_to(folder)}"


def _files(distribution: Distribution, folder: Path) -> Iterator[tuple[Path, str]]:
    for file in distribution.files or ():
        path = Path(str(distribution.locate_file(file)))
        # Scripts are in another folder, which nothing imports from.
        if not IGNORED & set(file.parts) and ".." not in file.parts and path.is_file():
            yield path, f"installed/{path.relative_to(folder)}"


def _archive(packages: list[Package]) -> bytes:
    """Return all files of the packages as a ZIP archive, the same bytes for the same files."""
    sizes = {
        package.label: sum(path.stat().st_size for path, _ in package.files) / 1e6
        for package in packages
    }
    if sum(sizes.values()) > LIMIT_MB:
        largest = max(sizes, key=lambda label: sizes[label])
        raise ValueError(
            f"the packages in your home have {sum(sizes.values()):.0f} MB, more than "
            f"{LIMIT_MB} MB; the largest is {largest} with {sizes[largest]:.0f} MB: build an image "
            "with it (docs/how-to/environment.md), or uninstall what workers do not need"
        )
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, name in sorted(file for package in packages for file in package.files):
            archive.writestr(zipfile.ZipInfo(name), path.read_bytes())
    return content.getvalue()
