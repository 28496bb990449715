"""The bounded wait that all commands and tests use."""

import time
from collections.abc import Callable
from typing import TypeVar

from shoppe_ci.errors import ShoppeError
from shoppe_ci.progress import elapsed

T = TypeVar("T")


def eventually(
    probe: Callable[[], T | None],
    what: str,
    *,
    timeout: float = 60,
    every: float = 1,
    note: Callable[[str], None] | None = None,
) -> T:
    """Call `probe` until it returns something true, and return that.

    `what` completes the sentence "waited until …".  A probe that raises
    counts as not yet; its last error is part of the `ShoppeError` raised after
    `timeout` seconds.  A `ShoppeError` from the probe is final and passes through.
    """
    start = time.monotonic()
    reason = ""
    while True:
        try:
            if result := probe():
                return result
        except ShoppeError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
        waited = time.monotonic() - start
        if waited > timeout:
            text = f"timeout after {elapsed(waited)}: waited until {what}\n{reason}"
            raise ShoppeError(text.rstrip())
        if note:
            note(f"until {what}")
        time.sleep(every)
