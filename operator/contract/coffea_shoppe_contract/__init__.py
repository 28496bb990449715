"""Names that several components share, each defined once.

Every package of the project may import this one; it imports the standard library only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

ENV_XCACHE = "SHOPPE_XCACHE"
"""The facility's caches: `NAME=URL` pairs, comma-separated, the default first.

The URL of a cache for one origin has `?origin=HOST:PORT`; other caches forward to the
origin in the path.  A cache without a name has that of its host.
"""

DASHBOARDS_PATH = "dask-dashboards"
"""Path below a user's server at which the dashboards of the user's clusters are."""
MLFLOW_PATH = "mlflow"
"""Path below a user's server at which MLflow's pages are."""
SERVICEX_PATH = "servicex"
"""Path below a user's server at which the pages of the user's requests are."""


@dataclass(frozen=True)
class Cache:
    """One XCache instance as a notebook sees it."""

    name: str
    address: str
    """`root://HOST:PORT`."""
    origin: str = ""
    """`HOST:PORT` of the only origin, or empty for a forwarding cache."""

    def url(self, remote: str) -> str:
        """Return the address at which this cache serves a remote file.

        `remote` is `root://HOST[:PORT]//PATH`.  Raises `ValueError` for another form, and for
        an origin that this cache does not serve.
        """
        host = _origin(remote)
        # XRootD's paths may contain # and ?.
        path = "/" + remote.split("://", 1)[1].partition("/")[2].lstrip("/")
        if self.origin and self.origin != host:
            raise ValueError(
                f"{remote!r} is at {host}, but the cache {self.name!r} serves {self.origin} only"
            )
        if self.origin:
            return f"{self.address}/{path}"
        return f"{self.address}//root://{host}/{path}"


def _origin(remote: str) -> str:
    """Return `HOST:PORT` of `root://HOST[:PORT]//PATH`; raises `ValueError`."""
    parts = urlsplit(remote)
    if parts.scheme not in ("root", "xroot") or not parts.hostname or not parts.path:
        raise ValueError(
            f"{remote!r} is not a remote file that a cache can serve: "
            "it must look like root://HOST[:PORT]//PATH"
        )
    return f"{parts.hostname}:{parts.port or 1094}"


def cache_of(caches: Sequence[Cache], remote: str) -> Cache | None:
    """Return the cache for a remote file: that of its origin, else the first that forwards.

    Returns None if there is none of both.  Raises `ValueError` if `remote` is not
    `root://HOST[:PORT]//PATH` and there are caches.
    """
    if not caches:
        return None
    host = _origin(remote)
    of_origin = (cache for cache in caches if cache.origin == host)
    forwarding = (cache for cache in caches if not cache.origin)
    return next(of_origin, None) or next(forwarding, None)


def parse_caches(text: str) -> list[Cache]:
    """Return the caches in a value of `ENV_XCACHE`, the default first.

    Raises `ValueError` with the entry that is not `NAME=root://HOST:PORT`.
    """
    caches = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, _, url = entry.partition("=")
        if entry.startswith("root://"):
            name, url = urlsplit(entry).hostname or "", entry
        parts = urlsplit(url)
        if not name or parts.scheme != "root" or not parts.netloc:
            raise ValueError(
                f"{ENV_XCACHE}: {entry!r} is not NAME=root://HOST:PORT[?origin=HOST:PORT]"
            )
        origin = parts.query.removeprefix("origin=")
        if origin and ":" not in origin:
            origin = f"{origin}:1094"
        caches.append(Cache(name=name, address=f"root://{parts.netloc}", origin=origin))
    return caches
