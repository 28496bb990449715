"""Look-ups of datasets, each in a process of its own: names lead to hosts that users choose."""

from typing import Any

from coffea_shoppe_servicex import finders, isolation
from coffea_shoppe_servicex.errors import TransformError
from coffea_shoppe_servicex.finders import Files, LookupFailedError
from coffea_shoppe_servicex.settings import Finders

DEADLINE_S = 600
"""Longest look-up: a pattern may lead through many folders."""
MEMORY_MIB = 256


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
