"""Libraries that are installed with an extra of this package."""

from collections.abc import Iterator
from contextlib import contextmanager


class MissingExtraError(ImportError):
    """A library is not installed; the text names the extra that brings it."""


@contextmanager
def extra(name: str, *, user: str) -> Iterator[None]:
    """Import libraries that the extra `name` brings.

    `user` is what needs them, as the user calls it.  Raises `MissingExtraError` where one
    is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{user} needs {error.name}: pip install 'coffea-shoppe[{name}]'", name=error.name
        ) from error
