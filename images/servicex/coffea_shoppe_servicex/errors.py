"""What can go wrong, in words that are fit for the user who asked."""


class QueryError(ValueError):
    """A request that can never work: it is refused as it is submitted."""


class TransformError(Exception):
    """A file that cannot be transformed; trying again gives the same."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        """One word in CamelCase."""


class UnreadableError(TransformError):
    """A file that could not be read from where it was tried; another place may have it."""


class NotFoundError(Exception):
    """There is no such request or dataset."""


class ForbiddenError(Exception):
    """There is one, but it is another user's."""


class LeaseLostError(Exception):
    """The file was given to another transformer, or its request has ended."""
