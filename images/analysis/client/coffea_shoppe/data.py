"""Addresses at which remote files are read: in the facility's cache, where it has one."""

import os

from coffea_shoppe_contract import ENV_XCACHE, Cache, cache_of, parse_caches


def caches() -> list[Cache]:
    """Return the facility's caches, the default first; none outside of a facility."""
    return parse_caches(os.environ.get(ENV_XCACHE, ""))


def data_url(url: str, *, cache: str | None = None) -> str:
    """Return the address at which to read a file.

    A remote file (`root://…`) is read from the cache that `cache` names; without a name from
    the one for its origin, else from the facility's first one for any origin.  Where there is
    none of these, it is read from its origin.  Local paths, and addresses in a cache, are
    returned as they are.

    Raises `ValueError` for a cache that the facility does not have, and for a
    file at another origin than the named cache's only one.
    """
    known = caches()
    if cache is not None and cache not in {entry.name for entry in known}:
        names = ", ".join(entry.name for entry in known)
        remedy = f"give one of {names}, or leave cache out" if names else "leave cache out"
        raise ValueError(f"cache: there is no cache {cache!r} in this facility; {remedy}")
    if "://" not in url or any(url.startswith(entry.address + "/") for entry in known):
        return url
    if not url.startswith(("root://", "xroot://")):
        if cache is not None:
            raise ValueError(
                f"{url!r}: caches serve only root:// addresses; give one, or leave cache out"
            )
        return url
    if cache is not None:
        return next(entry for entry in known if entry.name == cache).url(url)
    chosen = cache_of(known, url)
    return chosen.url(url) if chosen else url
