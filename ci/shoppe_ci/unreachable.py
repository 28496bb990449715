"""Retries calls that did not reach the API server, which starts or is overloaded."""

import re
import time
from collections.abc import Callable
from typing import TypeVar

from shoppe_ci.errors import ShoppeError

T = TypeVar("T")

ATTEMPTS = 8
DELAY_S = 5.0

# What kubectl and Helm say themselves; a program that `kubectl exec` runs says it otherwise.
UNREACHABLE = re.compile(
    r"Unable to connect to the server"
    r"|The connection to the server \S+ was refused"
    r"|Kubernetes cluster unreachable"
    r"|failed to download openapi"
    r"|etcdserver: (?:request timed out|leader changed)"
)


def repeated(call: Callable[[], T], *, attempts: int = ATTEMPTS, delay: float | None = None) -> T:
    """Return the result of `call`; retry after `delay` seconds if no server responded.

    Raises the last attempt's `ShoppeError`, and at once one with any other reason.
    """
    for _ in range(attempts - 1):
        try:
            return call()
        except ShoppeError as error:
            if not UNREACHABLE.search(error.problem):
                raise
        time.sleep(DELAY_S if delay is None else delay)
    return call()
