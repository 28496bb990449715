"""Errors of the service; their messages are shown to users."""

import textwrap

CONTEXT = ("This error occurred while", "See if this has been reported", "in file ", "in object ")
"""Beginnings of the lines after which messages of awkward and uproot repeat what is known."""
CAUSE_LENGTH = 400
LOGIN_FAILED = "LoginFailed"
"""Reason of a file whose origin demands a login, which failed."""


class QueryError(ValueError):
    """A transform request that can never succeed; refused at submission."""


class UnknownCodegenError(QueryError):
    """A code generator that is not offered, or that a transformer lacks."""


class CodegenError(ValueError):
    """A code generator that cannot be loaded."""


class RevisionError(Exception):
    """The database was migrated by a version of the code with other migrations."""


class TransformError(Exception):
    """A file that cannot be transformed; a retry would give the same error."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        """One word in CamelCase."""


class UnreadableError(TransformError):
    """A file that could not be read from one URL."""

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        other_url_may_help: bool = True,
        retry_may_help: bool = False,
    ) -> None:
        super().__init__(reason, message)
        self.other_url_may_help = other_url_may_help
        """Whether another URL of the file may be readable now."""
        self.retry_may_help = retry_may_help
        """Whether a later attempt may succeed."""


class NotFoundError(Exception):
    """The request or dataset does not exist."""


class ForbiddenError(Exception):
    """The request or dataset belongs to another user."""


class BusyServiceError(Exception):
    """The service has too much to do for this user at present; a retry may succeed."""


class LeaseLostError(Exception):
    """The transformer's lease has expired, or the request has ended."""


def cause_of(error: BaseException) -> str:
    """Return an exception's message in one line, without the context that libraries add."""
    lines = []
    for line in str(error).splitlines():
        if line.startswith(CONTEXT):
            break
        lines += line.split()
    return textwrap.shorten(" ".join(lines), CAUSE_LENGTH, placeholder=" …") or repr(error)
