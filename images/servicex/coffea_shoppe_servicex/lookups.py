"""Look-ups of datasets and of files' identities, each in a process of its own.

Names lead to hosts that users choose.
"""

from collections.abc import Sequence
from typing import Any

from coffea_shoppe_servicex import finders, identities, isolation
from coffea_shoppe_servicex.errors import TransformError
from coffea_shoppe_servicex.finders import Files, LookupFailedError
from coffea_shoppe_servicex.identities import Identity
from coffea_shoppe_servicex.settings import Finders

DEADLINE_S = 600
"""Longest look-up: a pattern may lead through many folders."""
MEMORY_MIB = 256
FILES_AT_ONCE = 20_000
"""Files that one process identifies."""
IDENTITIES_DEADLINE_S = 300
"""Longest time for the identities of `FILES_AT_ONCE` files."""
MARGIN_S = 30
"""A process that is in time by itself ends within this much more."""


def find(name: str, settings: Finders, *, deadline_s: float = DEADLINE_S) -> Files:
    """Return the files of `SCHEME://NAME`, each once; raises `LookupFailedError`."""
    isolation.preload([__name__])
    token = settings.rucio.token
    limits = isolation.Limits(deadline_s, MEMORY_MIB, readable=[token] if token else [])
    try:
        result = isolation.call(_find, name, settings, limits=limits)
    except TransformError as error:
        message = f"{name} could not be looked up: {error}"
        raise LookupFailedError("internal_failure", message) from error
    if "status" in result:
        raise LookupFailedError(result["status"], result["message"])
    files: Files = result["files"]
    return files


def _find(name: str, settings: Finders) -> dict[str, Any]:
    """Return the files, or why there are none: called in the process."""
    try:
        return {"files": finders.find(name, settings)}
    except LookupFailedError as error:
        return {"status": error.status, "message": str(error)}


def identify(
    files: Sequence[Sequence[str]],
    *,
    local_files: bool,
    deadline_s: float = IDENTITIES_DEADLINE_S,
    opens: bool = False,
) -> list[Identity]:
    """Return the identity of each file, given as its replicas' URLs, as its origin gives it.

    `opens`: the problem of a file is `EARLIER` if who opens it now gets an earlier content.
    A process that fails leaves its files unreachable.
    """
    isolation.preload([__name__])
    limits = isolation.Limits(deadline_s + MARGIN_S, MEMORY_MIB, confined=not local_files)
    answers: list[Identity] = []
    for start in range(0, len(files), FILES_AT_ONCE):
        batch = [list(urls) for urls in files[start : start + FILES_AT_ONCE]]
        try:
            answers += isolation.call(
                *(_identify, batch, local_files, deadline_s, opens), limits=limits
            )
        except TransformError as error:
            kind, message = identities.UNREACHABLE, f"files could not be looked up: {error}"
            answers += [{"url": urls[0], "problem": kind, "message": message} for urls in batch]
    return answers


def _identify(
    files: list[list[str]], local_files: bool, deadline_s: float, opens: bool
) -> list[Identity]:
    """Return the identities: called in the process."""
    return identities.look_up(files, local_files=local_files, deadline_s=deadline_s, opens=opens)
