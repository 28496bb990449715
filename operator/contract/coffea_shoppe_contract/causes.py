"""Why an input file cannot be read, in one sentence, and whether a second attempt may succeed.

Errors of aiohttp, fsspec, uproot and XRootD's client are recognised without importing them.
"""

import enum
import os
import re
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from coffea_shoppe_contract.addresses import redacted

HEAD_BYTES = 64
"""Bytes at the beginning of a file that tell what it is: ROOT's header, or that of a page."""
HEAD_REQUEST = {"Range": f"bytes=0-{HEAD_BYTES - 1}", "Accept-Encoding": "identity"}
"""HTTP headers of a request for them."""
WEB_SCHEMES = ("http://", "https://", "davs://")
ABSENT, REFUSED = (404, 410), (401, 403, 407)
BUSY = (408, 425, 429, 500, 502, 503, 504)
"""HTTP statuses after which a second attempt may succeed."""
XROOTD = re.compile(r"\[(30\d\d)\]")
XROOTD_ABSENT, XROOTD_REFUSED, XROOTD_FOLDER = ("3011",), ("3010",), ("3015", "3016")
XROOTD_FINAL = (*XROOTD_ABSENT, *XROOTD_REFUSED, *XROOTD_FOLDER, "3000", "3002", "3013", "3028")
"""XRootD's error numbers (XProtocol, kXR_...) after which a second attempt fails, too."""
XROOTD_LOGIN, LOGIN_FAILED = "3030", "Auth failed"
"""XRootD's error number for a login that failed, and what its client says of its own."""
UNKNOWN = re.compile(r"unknown|unimplemented|not implemented|memberwise|interpret", re.IGNORECASE)
CONTENT_RANGE = re.compile(r"bytes [0-9]+-[0-9]+/([0-9]+)")
LARGE_FILE_VERSION = 1_000_000
"""Files beyond 2 GiB have this added to the version in their header."""
NO_FILE = "no such file"
WEB_PAGE = "is a web page, not a ROOT file"
NOT_ROOT = "not a ROOT file"


class Kind(enum.Enum):
    """What hinders the reading of a file."""

    ABSENT = enum.auto()
    REFUSED = enum.auto()
    LOGIN = enum.auto()
    """The login at its server, or that of a cache at its origin, failed."""
    FOLDER = enum.auto()
    BUSY = enum.auto()
    """Its server responds with an error that passes."""
    RESPONSE = enum.auto()
    """Its server responds with another error."""
    NO_RANGES = enum.auto()
    """Its server sends only entire files."""
    NOT_ROOT = enum.auto()
    """It is something else: a web page, or text."""
    DAMAGED = enum.auto()
    """Damaged or truncated."""
    UNSUPPORTED = enum.auto()
    """It contains something that uproot cannot read, and may be intact."""
    UNREACHABLE = enum.auto()
    """Its server does not respond."""


OF_THE_CONTENT = (Kind.NOT_ROOT, Kind.DAMAGED, Kind.UNSUPPORTED, Kind.NO_RANGES)
"""Kinds that a second attempt at the same address does not change, whatever the error was."""


@dataclass(frozen=True)
class Cause:
    """Why a file cannot be read from one address."""

    kind: Kind
    sentence: str
    retry_may_help: bool
    """Whether a second attempt at the same address may succeed."""

    @property
    def other_address_may_help(self) -> bool:
        """Return whether the file may be readable from another address: a copy is the same."""
        return self.kind is not Kind.UNSUPPORTED


@dataclass(frozen=True)
class Response:
    """The response of a web server to a request for the first bytes of a file."""

    status: int
    kind: str
    """Its Content-Type."""
    head: bytes
    size: int | None = None
    """Bytes of the file, if the server gives them."""

    @classmethod
    def of(cls, status: int, headers: Mapping[str, str], head: bytes) -> Self:
        """Return the response with a status, headers and the first bytes of its body."""
        part = CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
        size = int(part[1]) if part else None
        return cls(status, headers.get("Content-Type", ""), head, size)

    def cause(self) -> tuple[Kind, str] | None:
        """Return what is wrong with the response, or None."""
        if self.status in ABSENT:
            return Kind.ABSENT, NO_FILE
        if self.status in REFUSED:
            return Kind.REFUSED, refused(f"HTTP {self.status}")
        if self.status not in (200, 206):
            return None
        if "html" in self.kind or _is_html(self.head):
            question = "does the address need a login, or is it the address of a page about"
            return Kind.NOT_ROOT, f"{WEB_PAGE}: {question} the file?"
        if self.status == 200 and self.head.startswith(b"root"):
            problem = "its server sends only entire files (no HTTP ranges)"
            return Kind.NO_RANGES, f"{problem}: copy the file, and use the copy"
        if self.head and not self.head.startswith(b"root"):
            return Kind.NOT_ROOT, NOT_ROOT
        if self.size is not None and (problem := missing_bytes(self.head, self.size)):
            return Kind.DAMAGED, problem
        return None


Probe = Callable[[str], Response | None]
"""Requests a file's first bytes from a web server; None if it does not respond."""
LoginFailure = Callable[[str], str]
"""Returns for a file's address why a login failed; '' if that is not known."""


def chain(error: BaseException) -> list[BaseException]:
    """Return an error and its causes, each once: the chain may contain itself."""
    errors: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in errors:
        errors.append(current)
        current = current.__cause__ or current.__context__
    return errors


def may_pass(error: BaseException) -> bool:
    """Return whether a second attempt may succeed, by the error."""
    errors = chain(error)
    final = (FileNotFoundError, IsADirectoryError, PermissionError)
    if any(isinstance(cause, final) for cause in errors):
        return False
    if status := _status(errors):
        return status in BUSY
    if _login_failed(errors):
        return False
    if codes := _xrootd_codes(errors):
        return not codes.intersection(XROOTD_FINAL)
    return any(isinstance(cause, OSError) or is_client_error(cause) for cause in errors)


def find_cause(
    address: str,
    error: BaseException,
    *,
    probe: Probe | None = None,
    login_failure: LoginFailure | None = None,
    reason: str = "",
) -> Cause:
    """Return why a file could not be read, by the error that reading it raised.

    `address` is a local path or a URL.  `probe` requests the file's first bytes from a web server.
    `login_failure` returns why a cache could not log in to the file's origin.  `reason` is the
    error's text for the sentence; without it, that is its first line.
    """
    errors = chain(error)
    status = _status(errors)
    if probe and address.startswith(WEB_SCHEMES) and status not in BUSY:
        response = probe(address)
        if response is not None and (cause := response.cause()):
            return Cause(*cause, retry_may_help=False)
    kind, sentence = _by_errors(address, errors, status, reason or _reason(errors))
    if kind is Kind.LOGIN and login_failure:
        sentence = login_failure(address) or sentence
    return Cause(kind, sentence, kind not in OF_THE_CONTENT and may_pass(error))


def _by_errors(
    address: str, errors: list[BaseException], status: int, reason: str
) -> tuple[Kind, str]:
    """Return the cause that the errors name."""
    codes = _xrootd_codes(errors)
    if status in ABSENT or codes.intersection(XROOTD_ABSENT) or _is(errors, FileNotFoundError):
        literal = "; root:// takes %20 as it is: write a space" if "%20" in address else ""
        return Kind.ABSENT, f"{NO_FILE}{literal if address.startswith('root') else ''}"
    if status in REFUSED or codes.intersection(XROOTD_REFUSED) or _is(errors, PermissionError):
        return Kind.REFUSED, refused(f"HTTP {status}" if status else "")
    if _login_failed(errors):
        return Kind.LOGIN, "its origin demands a login, which failed: may you read it?"
    if codes.intersection(XROOTD_FOLDER) or _is(errors, IsADirectoryError):
        return Kind.FOLDER, "is a folder: name its files, such as 'FOLDER/*.root'"
    if status:
        kind = Kind.BUSY if status in BUSY else Kind.RESPONSE
        remedy = "try again later" if kind is Kind.BUSY else "is the address right?"
        return kind, f"its server responds with HTTP {status}: {remedy}"
    return _by_content(address, errors, reason)


def _by_content(address: str, errors: list[BaseException], reason: str) -> tuple[Kind, str]:
    """Return what is wrong with a file's content, or with the network."""
    if "://" not in address:
        if problem := not_root(Path(address)):
            return Kind.NOT_ROOT, problem
        if problem := cut_short(Path(address)):
            return Kind.DAMAGED, problem
    if any(NOT_ROOT in str(error) for error in errors):
        return Kind.NOT_ROOT, NOT_ROOT
    parsing = [error for error in errors if not isinstance(error, OSError)]
    if _is(errors, NotImplementedError) or any(UNKNOWN.search(str(error)) for error in parsing):
        problem = f"contains something that uproot cannot read ({reason}); the file may be intact"
        return Kind.UNSUPPORTED, problem
    is_network = _is(errors, ConnectionError, TimeoutError) or any(map(is_client_error, errors))
    if is_network or ("://" in address and _is(errors, OSError) and "Chunk" not in reason):
        return Kind.UNREACHABLE, f"cannot be opened ({reason}); is its origin up?"
    return Kind.DAMAGED, f"is damaged or cut short ({reason})"


def is_client_error(error: BaseException) -> bool:
    """Return whether an error is one of aiohttp's client."""
    return any(
        kind.__name__ == "ClientError" and kind.__module__.startswith("aiohttp")
        for kind in type(error).__mro__
    )


def _is(errors: list[BaseException], *kinds: type[BaseException]) -> bool:
    return any(isinstance(error, kinds) for error in errors)


def _status(errors: list[BaseException]) -> int:
    """Return the HTTP status of an error among these, or 0."""
    statuses = (getattr(error, "status", 0) for error in errors if is_client_error(error))
    return next((status for status in statuses if isinstance(status, int) and status), 0)


def _login_failed(errors: list[BaseException]) -> bool:
    """Return whether the login of XRootD's client, or that of a cache, failed."""
    refused_by_server = any(LOGIN_FAILED in str(error) for error in errors)
    return refused_by_server or XROOTD_LOGIN in _xrootd_codes(errors)


def _xrootd_codes(errors: list[BaseException]) -> set[str]:
    return {match[1] for error in errors if (match := XROOTD.search(str(error)))}


def _reason(errors: list[BaseException]) -> str:
    """Return the first line of the innermost error's text, without secrets."""
    for error in reversed(errors):
        if lines := str(error).strip().splitlines():
            return redacted(lines[0])
    return type(errors[-1]).__name__


def refused(status: str) -> str:
    """Return the sentence for a file that may not be read."""
    detail = f" ({status})" if status else ""
    return (
        f"access is refused{detail}: may you read it, and is the signature or token in its "
        "address, if it needs one, still valid?"
    )


def not_root(path: Path) -> str:
    """Return what a local file without ROOT's header is, or ''."""
    with suppress(OSError), path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        if not head:
            return "is empty: copy it again"
        if _is_html(head):
            return f"{WEB_PAGE}: download it again, with a login if it needs one"
        if not head.startswith(b"root"):
            return NOT_ROOT
    return ""


def _is_html(head: bytes) -> bool:
    return head.lstrip().lower().startswith((b"<!doctype html", b"<html"))


def cut_short(path: Path) -> str:
    """Return how much of a local file is missing, according to its header, or ''."""
    with suppress(OSError), path.open("rb") as file:
        return missing_bytes(file.read(HEAD_BYTES), os.fstat(file.fileno()).st_size)
    return ""


def missing_bytes(head: bytes, size: int) -> str:
    """Return how much is missing of a file of some size (bytes) with a header, or ''."""
    with suppress(struct.error):
        (version,) = struct.unpack_from(">i", head, 4)
        # Files beyond 2 GiB store their end in eight bytes.
        (end,) = struct.unpack_from(">q" if version >= LARGE_FILE_VERSION else ">i", head, 12)
        if head.startswith(b"root") and size < end:
            return is_cut_short(size, end)
    return ""


def is_cut_short(present: int, expected: int) -> str:
    """Return the sentence for a file of which only some bytes are present."""
    return f"is cut short: {present:,} of its {expected:,} bytes are present; copy it again"
