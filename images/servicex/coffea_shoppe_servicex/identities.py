"""Identities of files: what tells a file from an earlier one at the same address.

An identity is what the file's origin says of it: size, time of its last change, and HTTP's
entity tag.  The origin itself gives it, never a cache.  Where several servers have copies of a
file, each may have a time and tag of its own, and another one may respond each time: the size
alone is the file's.
"""

import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import requests
from coffea_shoppe_contract.addresses import shown_address

from coffea_shoppe_servicex import addresses

Identity = dict[str, Any]
"""Dictionary with url, size (bytes), mtime and etag ('' if the origin gives none).

`copies` is true if the origin redirects to several servers; mtime and etag are '' then.
If the origin did not give them: with url, problem (`ABSENT`, `UNREACHABLE`, `UNKNOWN` or
`EARLIER`) and message.  The service adds `seen`, the time of the origin's response (Unix, s),
`outdated`, why the origin could not confirm it since, and `adler32`, the checksum of the
dataset's listing.
"""
ABSENT, UNREACHABLE, UNKNOWN = "absent", "unreachable", "unknown"
"""The origin has no such file; it does not respond; it does not say what the file is."""
EARLIER = "earlier"
"""The origin gives an earlier content of the file to whoever opens it now."""
EARLIER_TIMEOUT_S, EARLIER_INTERVAL_S = 30, 2
"""How long, and how often, an origin is asked that gives an earlier content."""
REQUESTS_AT_ONCE = 32
HOST_FAILURES = 2
"""After so many failures, the remaining files of an origin count as unreachable."""
TIMEOUT_S = 10
"""Timeout of one request to an origin, seconds."""
STACK_BYTES = 2**20
"""Stack of a thread: the memory of a look-up's process is limited."""
XROOTD_SETTINGS = {"TimeoutResolution": 1}
"""Settings of XRootD's client, by which a timeout is observed to the second."""
XROOTD_LOOKUP_SETTINGS = {**XROOTD_SETTINGS, "ConnectionWindow": 5, "ConnectionRetry": 1}
"""The same in a process that reads no file, seconds and attempts."""
XROOTD_ERROR_RESPONSE, XROOTD_NOT_FOUND = 400, 3011
"""Code of XRootD's client for a server's error, and that error's number for a missing file."""
XROOTD_LOGIN_FAILED = 204
"""Code of XRootD's client where a server accepts none of its logins."""
CONTENT_PARAMETER = "shoppe.content"
"""Parameter of a URL by which the facility's caches distinguish contents of one file."""
XROOTD_SCHEMES, WEB_SCHEMES = ("root", "roots", "xroot", "xroots"), ("http", "https", "davs")
CONTENT_RANGE = re.compile(r"bytes [0-9]+-[0-9]+/([0-9]+)")
UNAVAILABLE = (429, 500, 502, 503, 504)
"""HTTP statuses of an origin that may respond later."""


def look_up(
    files: Sequence[Sequence[str]], *, local_files: bool, deadline_s: float, opens: bool = False
) -> list[Identity]:
    """Return the identity of each file, given as the URLs of its replicas.

    It is that of the first replica whose origin gives one; without any, the first replica's
    problem.  Files for which the time does not suffice are `UNREACHABLE`.  `opens`: the problem
    of a file is `EARLIER` if who opens it now gets an earlier content.  To be called in a
    process of its own, whose settings it changes.
    """
    threading.stack_size(STACK_BYTES)
    origins = _Origins(
        local_files=local_files,
        end=time.monotonic() + deadline_s,
        xrootd_settings=XROOTD_LOOKUP_SETTINGS,
        opens=opens,
    )
    with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
        return list(pool.map(origins.first_identity, files))


def current(url: str, *, local_files: bool, opens: bool = False) -> Identity:
    """Return the identity of the file at a URL, within about `TIMEOUT_S` seconds.

    `opens`: the problem is `EARLIER` if who opens the file now gets an earlier content.
    """
    end = time.monotonic() + TIMEOUT_S
    origins = _Origins(
        local_files=local_files, end=end, xrootd_settings=XROOTD_SETTINGS, opens=opens
    )
    return origins.identity(url)


def current_once_closed(url: str, *, local_files: bool) -> Identity:
    """Return the identity of a file that is to be read, once its earlier content is closed.

    After `EARLIER_TIMEOUT_S` the problem is `EARLIER`.
    """
    end = time.monotonic() + EARLIER_TIMEOUT_S
    while True:
        identity = current(url, local_files=local_files, opens=True)
        if identity.get("problem") != EARLIER or time.monotonic() >= end:
            return identity
        time.sleep(EARLIER_INTERVAL_S)


def is_known(identities: Sequence[Identity]) -> bool:
    """Return whether there are identities, and none has a problem."""
    return bool(identities) and not any("problem" in identity for identity in identities)


def is_earlier(identities: Iterable[Identity]) -> bool:
    """Return whether an origin gives an earlier content of one of the files."""
    return any(identity.get("problem") == EARLIER for identity in identities)


def is_absent(identities: Iterable[Identity]) -> bool:
    """Return whether an origin lacks one of the files."""
    return any(identity.get("problem") == ABSENT for identity in identities)


def content(identities: Iterable[Identity]) -> list[list[Any]]:
    """Return what is equal for equal contents of files: size, mtime and etag of each.

    The checksum follows them if there is one.
    """
    return [
        [
            *(identity[key] for key in ("size", "mtime", "etag")),
            *([identity["adler32"]] if "adler32" in identity else []),
        ]
        for identity in identities
    ]


def with_checksum(identity: Sequence[Identity], checksum: str) -> list[Identity]:
    """Return the identities of a file, and of those that are read beside it, with its checksum.

    `checksum` is the one (Adler-32) that the dataset's listing has now; '' if it has none.
    """
    own, *beside = identity
    own = {key: value for key, value in own.items() if key != "adler32"}
    if checksum and "problem" not in own:
        own["adler32"] = checksum
    return [own, *beside]


def with_content(url: str, identities: Iterable[Identity]) -> str:
    """Return a URL in a cache, at which files with other identities are another entry."""
    name = hashlib.sha256(json.dumps(content(identities)).encode()).hexdigest()[:24]
    return f"{url}{'&' if '?' in url else '?'}{CONTENT_PARAMETER}={name}"


def change(earlier: Identity, now: Identity) -> str:
    """Return how a file has changed, for a message; '' if it has not, or if that is unknown."""
    if now.get("problem") == ABSENT:
        return "it is no longer there"
    if "problem" in now or "problem" in earlier:
        return ""
    has_copies = "copies" in earlier or "copies" in now
    for key, what in (("size", "size in bytes"), ("mtime", "time of change"), ("etag", "ETag")):
        if earlier[key] != now[key] and (key == "size" or not has_copies):
            return f"its {what} was {earlier[key] or 'not given'}, and is {now[key] or 'not given'}"
    return ""


def remarks(files: Sequence[Sequence[Identity]]) -> str:
    """Return in sentences what is uncertain of a request's files; '' if nothing is."""
    unknown = [each for identities in files for each in identities if "problem" in each]
    outdated = [each for identities in files for each in identities if "outdated" in each]
    size_only = [
        each
        for identities in files
        for each in identities
        if "size" in each and not each["mtime"] and not each["etag"]
    ]
    copies = [each for each in size_only if "copies" in each]
    timeless = [each for each in size_only if "copies" not in each]
    sentences = []
    if unknown:
        message = unknown[0]["message"]
        sentences.append(
            f"{len(unknown)} of {len(files)} files could not be identified ({message}): the "
            "result will not be reused"
        )
    if outdated:
        seen = datetime.fromtimestamp(outdated[0]["seen"], UTC).strftime("%Y-%m-%d %H:%M:%S")
        sentences.append(
            f"{len(outdated)} of {len(files)} files are taken as they were at {seen} UTC: "
            f"{outdated[0]['outdated']}"
        )
    for listed, reason in (
        (timeless, "their origin gives no time of change"),
        (copies, "their origin redirects to several servers"),
    ):
        if listed:
            sentences.append(
                f"{len(listed)} of {len(files)} files are identified by their size only, because "
                f"{reason} ({shown_address(listed[0]['url'])}): a change that keeps the size is "
                "not noticed"
            )
    return "; ".join(sentences)


class _Origins:
    """The origins of files, until a time (monotonic, s); threads may ask them at once.

    `opens`: a file at an XRootD server is opened, too, to see whether its content is `EARLIER`.
    """

    def __init__(
        self,
        *,
        local_files: bool,
        end: float,
        xrootd_settings: dict[str, int],
        opens: bool = False,
    ) -> None:
        self.local_files, self.end = local_files, end
        self.xrootd_settings, self.opens = xrootd_settings, opens
        self._failures = Counter[str]()
        self._roles: dict[str, int] = {}
        """The flags (`HostTypes`) of each XRootD server."""
        self._thread = threading.local()

    def first_identity(self, urls: Sequence[str]) -> Identity:
        """Return the first identity among a file's replicas, or the first one's problem.

        A replica with an earlier content is one that would be read: the next does not count.
        """
        first: Identity | None = None
        for url in urls:
            identity = self.identity(url)
            if "problem" not in identity or identity["problem"] == EARLIER:
                return identity
            first = first or identity
        return first or _problem("", UNKNOWN, "the file has no URL")

    def identity(self, url: str) -> Identity:
        """Return the identity of the file at a URL."""
        try:
            addresses.check(url, local_files=self.local_files)
            netloc = urlsplit(url).netloc
        except ValueError as error:
            return _problem(url, UNKNOWN, str(error))
        scheme, separator, _ = url.partition("://")
        if not separator or scheme == "file":
            return _local_file(url)
        if scheme not in (*XROOTD_SCHEMES, *WEB_SCHEMES):
            return _problem(url, UNKNOWN, f"{shown_address(url)}: {scheme}:// has no identities")
        host = f"{scheme}://{netloc}"
        shown = shown_address(url)
        remaining_s = self.end - time.monotonic()
        if self._failures[host] >= HOST_FAILURES or remaining_s <= 0:
            return _problem(url, UNREACHABLE, f"{shown}: its origin does not respond")
        timeout_s = max(min(TIMEOUT_S, remaining_s), 1)
        try:
            if scheme in XROOTD_SCHEMES:
                identity = self._xrootd_file(url, timeout_s)
            else:
                identity = self._web_file(url, timeout_s)
        except Exception as error:
            message = f"{shown}: its origin does not respond ({type(error).__name__})"
            identity = _problem(url, UNREACHABLE, message)
        if identity.get("problem") == UNREACHABLE:
            self._failures[host] += 1
        return identity

    def _web_file(self, url: str, timeout_s: float) -> Identity:
        """Return the identity that an HTTP server gives."""
        if not hasattr(self._thread, "session"):
            self._thread.session = requests.Session()
            self._thread.session.headers["Accept-Encoding"] = "identity"
        session: requests.Session = self._thread.session
        address = url.replace("davs://", "https://", 1)
        options: dict[str, Any] = {"timeout": timeout_s, "allow_redirects": True, "stream": True}
        response = session.head(address, **options)
        if not response.ok and response.status_code not in (404, 410, *UNAVAILABLE):
            # A signature may be valid for GET only, and some servers know no HEAD.
            response.close()
            response = session.get(address, headers={"Range": "bytes=0-0"}, **options)
        response.close()
        headers, status = response.headers, f"{response.status_code} {response.reason}"
        if response.status_code in (404, 410):
            return _problem(url, ABSENT, f"{shown_address(url)}: {status}")
        if not response.ok:
            kind = UNREACHABLE if response.status_code in UNAVAILABLE else UNKNOWN
            return _problem(url, kind, f"{shown_address(url)}: {status}")
        part = CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
        size = part[1] if part else headers.get("Content-Length", "")
        if not size.isdecimal() or (response.status_code == 206 and not part):
            return _problem(url, UNKNOWN, f"{shown_address(url)}: its server gives no size")
        mtime, etag = headers.get("Last-Modified", ""), headers.get("ETag", "")
        has_copies = urlsplit(response.url).hostname != urlsplit(address).hostname
        return _identity(url, int(size), mtime, etag, has_copies=has_copies)

    def _xrootd_file(self, url: str, timeout_s: float) -> Identity:
        """Return the identity that an XRootD server gives."""
        from XRootD import client

        for name, setting in self.xrootd_settings.items():
            client.EnvPutInt(name, setting)
        parsed = client.URL(url)
        server = client.FileSystem(f"{parsed.protocol}://{parsed.hostid}")
        status, statinfo = server.stat(parsed.path_with_params, timeout=int(timeout_s))
        if status.ok:
            mtime = _time(int(statinfo.modtime)) if statinfo.modtime else ""
            has_copies = self._has_copies(server, parsed, int(timeout_s))
            if self.opens and (opened := self._opened(server, url, int(timeout_s))):
                earlier, later = (
                    (int(each.size), int(each.modtime)) for each in (opened, statinfo)
                )
                if earlier != later:
                    message = (
                        f"{shown_address(url)}: its server still gives the content of "
                        f"{_time(earlier[1])}, because another client has it open"
                    )
                    return _problem(url, EARLIER, message)
            return _identity(url, int(statinfo.size), mtime, "", has_copies=has_copies)
        if status.code == XROOTD_LOGIN_FAILED:
            message = f"{shown_address(url)}: its origin demands a login, which only caches have"
            return _problem(url, UNKNOWN, message)
        message = f"{shown_address(url)}: {' '.join(status.message.split())}"
        if status.code != XROOTD_ERROR_RESPONSE:
            return _problem(url, UNREACHABLE, message)
        return _problem(url, ABSENT if status.errno == XROOTD_NOT_FOUND else UNKNOWN, message)

    def _has_copies(self, server: Any, url: Any, timeout_s: int) -> bool:
        """Return whether an XRootD server redirects to several servers for a file."""
        from XRootD.client.flags import HostTypes, OpenFlags

        if not self._role(server, timeout_s) & HostTypes.IS_MANAGER:
            return False
        status, locations = server.locate(url.path_with_params, OpenFlags.NONE, timeout=timeout_s)
        listed = list(locations) if status.ok and locations else []
        return len(listed) > 1 or any(location.is_manager for location in listed)

    def _opened(self, server: Any, url: str, timeout_s: int) -> Any:
        """Return size and time of the content that a client gets who opens the file now.

        An XRootD server gives the content that its first client opened to all others, until the
        last of them closes it, even if the path names another file by then.  Returns None where
        times cannot tell: a proxy and a cache have their own, and so have the servers to which
        a redirector leads.
        """
        from XRootD import client
        from XRootD.client.flags import HostTypes

        if self._role(server, timeout_s) & (HostTypes.IS_MANAGER | HostTypes.ATTR_PROXY):
            return None
        with client.File() as file:
            status, _ = file.open(url, timeout=timeout_s)
            if not status.ok:
                return None
            status, statinfo = file.stat(force=True, timeout=timeout_s)
        return statinfo if status.ok else None

    def _role(self, server: Any, timeout_s: int) -> int:
        """Return the flags of an XRootD server; 0 if it does not give them."""
        host = server.url.hostid
        if host not in self._roles:
            status, protocol = server.protocol(timeout=timeout_s)
            self._roles[host] = int(protocol.hostinfo) if status.ok else 0
        return self._roles[host]


def _identity(url: str, size: int, mtime: str, etag: str, *, has_copies: bool) -> Identity:
    if has_copies:
        return {"url": url, "size": size, "mtime": "", "etag": "", "copies": True}
    return {"url": url, "size": size, "mtime": mtime, "etag": etag}


def _local_file(address: str) -> Identity:
    """Return the identity of a file of this machine."""
    path = unquote(urlsplit(address).path) if address.startswith("file:") else address
    try:
        stat = Path(path).stat()
    except FileNotFoundError:
        return _problem(address, ABSENT, f"{address}: no such file")
    except OSError as error:
        return _problem(address, UNKNOWN, f"{address}: {error.strerror}")
    mtime = _time(stat.st_mtime_ns // 10**9, stat.st_mtime_ns % 10**9)
    return {"url": address, "size": stat.st_size, "mtime": mtime, "etag": ""}


def _time(seconds: int, nanoseconds: int | None = None) -> str:
    """Return a Unix time in ISO 8601."""
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}Z" if nanoseconds is None else f"{text}.{nanoseconds:09d}Z"


def _problem(url: str, kind: str, message: str) -> Identity:
    return {"url": url, "problem": kind, "message": message}
