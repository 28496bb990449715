"""Why a file cannot be read, in one sentence, and whether a second attempt may succeed."""

import os
import re
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from traceback import walk_tb

import aiohttp
import requests
from coffea_shoppe_contract.addresses import redacted

from agc.samples import InputError

PROBE_TIMEOUT_S = (5, 10)
HEAD_BYTES = 64
ABSENT, REFUSED = (404, 410), (401, 403, 407)
BUSY = (408, 425, 429, 500, 502, 503, 504)
"""HTTP statuses after which a second attempt may succeed."""
XROOTD = re.compile(r"\[(30\d\d)\]")
XROOTD_ABSENT, XROOTD_REFUSED, XROOTD_FOLDER = ("3011",), ("3010", "3030"), ("3015", "3016")
XROOTD_FINAL = (*XROOTD_ABSENT, *XROOTD_REFUSED, *XROOTD_FOLDER, "3000", "3002", "3013", "3028")
"""XRootD's error numbers (XProtocol, kXR_...) after which a second attempt fails, too."""
READERS = ("uproot", "fsspec", "fsspec_xrootd", "aiohttp", "XRootD")
UNKNOWN = re.compile(r"unknown|unimplemented|not implemented|memberwise|interpret", re.IGNORECASE)


def chain(error: BaseException) -> list[BaseException]:
    """Return an error and its causes, each once: the chain may contain itself."""
    errors: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in errors:
        errors.append(current)
        current = current.__cause__ or current.__context__
    return errors


def may_pass(error: BaseException) -> bool:
    """Return whether a second attempt may succeed."""
    errors = chain(error)
    final = (InputError, FileNotFoundError, IsADirectoryError, PermissionError)
    if any(isinstance(cause, final) for cause in errors):
        return False
    if status := _status(errors):
        return status in BUSY
    if codes := [match[1] for cause in errors if (match := XROOTD.search(str(cause)))]:
        return not any(code in XROOTD_FINAL for code in codes)
    return any(isinstance(cause, OSError | TimeoutError | aiohttp.ClientError) for cause in errors)


def explain(path: str, error: BaseException) -> str:
    """Return why a file could not be read, or '' for an error that is not of reading."""
    errors = chain(error)
    if not any(_of_a_reader(cause) for cause in errors):
        return ""
    codes = {match[1] for cause in errors if (match := XROOTD.search(str(cause)))}
    status = _status(errors)
    if path.startswith(("http://", "https://")) and status not in BUSY:
        response = _probe(path)
        if response is not None and (sentence := response.sentence()):
            return sentence
    if status in ABSENT or codes.intersection(XROOTD_ABSENT) or _is(errors, FileNotFoundError):
        literal = "; root:// takes %20 as it is: write a space" if "%20" in path else ""
        return f"no such file{literal if path.startswith('root') else ''}"
    if status in REFUSED or codes.intersection(XROOTD_REFUSED) or _is(errors, PermissionError):
        return _refused(f"HTTP {status}" if status else "")
    if codes.intersection(XROOTD_FOLDER) or _is(errors, IsADirectoryError):
        return "is a folder: name its files, such as 'FOLDER/*.root'"
    if status:
        later = "try again later" if status in BUSY else "is the address right?"
        return f"its server responds with HTTP {status}: {later}"
    return _content(path, errors)


def _content(path: str, errors: list[BaseException]) -> str:
    """Return what is wrong with a file's content, or with the network."""
    reason = _reason(errors)
    if any("not a ROOT file" in str(error) for error in errors):
        return "not a ROOT file"
    if "://" not in path and (problem := not_root(Path(path)) or cut_short(Path(path))):
        return problem
    if _is(errors, NotImplementedError) or any(UNKNOWN.search(str(error)) for error in errors):
        return f"contains something that uproot cannot read ({reason}); the file may be intact"
    network = (aiohttp.ClientError, TimeoutError, ConnectionError)
    if _is(errors, *network) or ("://" in path and _is(errors, OSError) and "Chunk" not in reason):
        return f"cannot be opened ({reason}); is its origin up?"
    return f"is damaged or cut short ({reason})"


def _is(errors: list[BaseException], *kinds: type[BaseException]) -> bool:
    return any(isinstance(error, kinds) for error in errors)


def _status(errors: list[BaseException]) -> int:
    """Return the HTTP status of an error among these, or 0."""
    return next(
        (error.status for error in errors if isinstance(error, aiohttp.ClientResponseError)), 0
    )


def _of_a_reader(error: BaseException) -> bool:
    """Return whether an error was raised within a package that reads files."""
    if isinstance(error, OSError | aiohttp.ClientError):
        return True
    frames = [frame for frame, _ in walk_tb(error.__traceback__)]
    names = {str(frame.f_globals.get("__name__", "")).partition(".")[0] for frame in frames}
    return bool(names.intersection(READERS))


def _reason(errors: list[BaseException]) -> str:
    """Return the first line of the innermost error's text, without secrets."""
    for error in reversed(errors):
        if lines := str(error).strip().splitlines():
            return redacted(lines[0])
    return type(errors[-1]).__name__


def _refused(status: str) -> str:
    detail = f" ({status})" if status else ""
    return (
        f"access is refused{detail}: may you read it, and is the signature or token in its "
        "address, if it needs one, still valid?"
    )


def not_root(path: Path) -> str:
    """Return what a local file without ROOT's header is, or ''."""
    with suppress(OSError), path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        if _is_html(head):
            return "is a web page, not a ROOT file: download it again, with a login if it needs one"
        if not head.startswith(b"root"):
            return "not a ROOT file"
    return ""


def _is_html(head: bytes) -> bool:
    return head.lstrip().lower().startswith((b"<!doctype html", b"<html"))


def cut_short(path: Path) -> str:
    """Return how much of a local file is missing, according to its header, or ''."""
    with suppress(OSError, struct.error):
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
            size = os.fstat(file.fileno()).st_size
        (version,) = struct.unpack_from(">i", head, 4)
        # Files beyond 2 GiB store their end in eight bytes.
        (end,) = struct.unpack_from(">q" if version >= 1_000_000 else ">i", head, 12)
        if head.startswith(b"root") and size < end:
            return f"is cut short: {size:,} of its {end:,} bytes are present; copy it again"
    return ""


@dataclass(frozen=True)
class _Response:
    """The response of a web server to a request for the first bytes of a file."""

    status: int
    kind: str
    head: bytes

    def sentence(self) -> str:
        """Return what is wrong with the response, or ''."""
        if self.status in ABSENT:
            return "no such file"
        if self.status in REFUSED:
            return _refused(f"HTTP {self.status}")
        if self.status not in (200, 206):
            return ""
        if "html" in self.kind or _is_html(self.head):
            return (
                "is a web page, not a ROOT file: does the address need a login, or is it the "
                "address of a page about the file?"
            )
        if self.status == 200 and self.head.startswith(b"root"):
            return (
                "its server sends only entire files (no HTTP ranges): copy the file, and use "
                "the copy"
            )
        return ""


def _probe(url: str) -> _Response | None:
    """Request a file's first bytes from a web server; None if it does not respond."""
    headers = {"Range": f"bytes=0-{HEAD_BYTES - 1}"}
    try:
        with requests.get(url, headers=headers, stream=True, timeout=PROBE_TIMEOUT_S) as response:
            head = next(response.iter_content(HEAD_BYTES), b"")
            return _Response(response.status_code, response.headers.get("Content-Type", ""), head)
    except requests.RequestException:
        return None
