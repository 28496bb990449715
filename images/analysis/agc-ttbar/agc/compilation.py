"""Compilation of loops."""

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function for its arguments' types, and keep the code where a folder allows it.

    The folder is NUMBA_CACHE_DIR, or that of the package, or the user's cache.  Code is used
    again while no module of the package has changed: a loop contains what it takes from others.
    """
    try:
        dispatcher: Any = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # no folder is writable
        dispatcher = numba.njit(nogil=True)(function)
    else:
        # Numba itself compares the function's own file only, and has no setting for others.
        dispatcher._cache._cache_file._source_stamp = _sources()
    compiled_function: Callable[..., Any] = dispatcher
    return compiled_function


@cache
def _sources() -> str:
    """Return a digest of the package's modules."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
