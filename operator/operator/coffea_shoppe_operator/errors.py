"""Errors of Kubernetes and of services."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class StorageError(Exception):
    """A request to Kubernetes or to a service failed; a retry may succeed."""


class ModelError(Exception):
    """A model cannot be served; the reason is one word, the text is for its user."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def translate_errors(
    service: str, *failures: type[Exception]
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a client's call: its errors become a `StorageError` that names both."""

    def decorate(call: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(call)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return call(*args, **kwargs)
            except failures as error:
                raise StorageError(f"{service}: {call.__name__}: {error}") from error

        return wrapper

    return decorate
