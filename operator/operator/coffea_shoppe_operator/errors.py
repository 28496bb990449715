"""What goes wrong outside of the operator."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class StorageError(Exception):
    """The cluster or a service did not do as asked; asking again may help."""


class ModelError(Exception):
    """A model that cannot be served as it is; the reason is one word, the text for its user."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def telling(service: str, *failures: type[Exception]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Turn a client's errors into a `StorageError` that names the service and the call."""

    def decorate(call: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(call)
        def told(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return call(*args, **kwargs)
            except failures as error:
                raise StorageError(f"{service}: {call.__name__}: {error}") from error

        return told

    return decorate
