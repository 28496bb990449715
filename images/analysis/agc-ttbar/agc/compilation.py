"""Compilation of loops."""

from collections.abc import Callable
from typing import Any

import numba


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function for its arguments' types, and keep the code where a folder allows it.

    The folder is NUMBA_CACHE_DIR, or that of the package, or the user's cache.
    """
    compiled_function: Callable[..., Any]
    try:
        compiled_function = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # no folder is writable
        compiled_function = numba.njit(nogil=True)(function)
    return compiled_function
