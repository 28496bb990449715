"""Addresses of input files: comparison, and a form without credentials for output."""

import re
from collections.abc import Iterable
from pathlib import Path
from posixpath import normpath
from urllib.parse import SplitResult, quote, unquote, urlsplit

SCHEMES = {"xroot": "root", "xroots": "roots", "davs": "https", "dav": "http"}
"""Alias of a scheme → the scheme."""
PORTS = {"root": 1094, "roots": 1094, "http": 80, "https": 443}

# Parameters of a query that concern access or transport, not the file.
ACCESS = re.compile(
    r"x-(amz|goog)-.*|xrd\..*|xrdcl\.(?!unzip).*|awsaccesskeyid|googleaccessid|signature|expires"
    r"|key-pair-id|policy|authz|(access_|id_)?token|sig|se|sp|sv|sr|st|skoid|sktid|ske|sks|skt|skv",
    re.IGNORECASE,
)
FORWARDED = re.compile(r"/*(x?roots?://.+)")
URL = re.compile(r"""[A-Za-z][A-Za-z0-9+.-]*://[^\s'"<>]+""")


def canonical_address(address: str) -> str:
    """Return the canonical form of an input file's address.

    `address` is a local path or a URL; all addresses of a file have the same canonical
    form.  A local path becomes absolute, without symbolic links.  A URL gets its scheme's
    usual name, its host in lower case, its port, and a path without `.` and `..`; `//` is
    collapsed in XRootD's paths only, because keys of an object store may contain it.  User,
    password and signature are dropped.  The URL of a forwarding cache becomes that of the
    origin.  The result is for comparison; it may not open the file.
    """
    if address.startswith("file:"):
        address = unquote(urlsplit(address).path)
    if "://" not in address:
        return str(Path(address).resolve())
    parts = urlsplit(address)
    if forwarded := FORWARDED.fullmatch(parts.path):
        tail = address[address.index(parts.path) :]
        return canonical_address(tail[forwarded.start(1) :])
    scheme = SCHEMES.get(parts.scheme, parts.scheme)
    if scheme in ("http", "https"):
        # XRootD does not decode paths: %20 is not a space there.
        path = quote(unquote(_without_dots(parts.path)))
    else:
        path = normpath("/" + parts.path.lstrip("/"))
    queries = (query for query in parts.query.split("&") if query)
    relevant = sorted(query for query in queries if not ACCESS.fullmatch(query.partition("=")[0]))
    query = f"?{'&'.join(relevant)}" if relevant else ""
    fragment = f"#{parts.fragment}" if parts.fragment else ""
    return f"{scheme}://{_host(parts, scheme)}{path}{query}{fragment}"


def _without_dots(path: str) -> str:
    """Return an absolute path without the segments `.` and `..` (RFC 3986, 5.2.4)."""
    segments: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            segments = segments[:-1] if len(segments) > 1 else segments
        elif segment != ".":
            segments.append(segment)
    return "/".join(segments)


def _host(parts: SplitResult, scheme: str) -> str:
    host = (parts.hostname or "").rstrip(".")
    try:
        port = parts.port or PORTS.get(scheme)
    except ValueError:
        # Opening the address raises the error about its port.
        return parts.netloc.rpartition("@")[2].lower()
    host = f"[{host}]" if ":" in host else host
    return f"{host}:{port}" if port else host


def repeated(addresses: Iterable[str]) -> list[tuple[str, str]]:
    """Return the pairs (first address, repeated address) of files that are listed twice."""
    first: dict[str, str] = {}
    pairs = []
    for address in addresses:
        canonical = canonical_address(address)
        if canonical in first:
            pairs.append((first[canonical], address))
        else:
            first[canonical] = address
    return pairs


def shown_address(address: str) -> str:
    """Return an address for output: without user, password and query."""
    scheme, separator, location = address.partition("://")
    if not separator:
        return address
    location, query, _ = location.partition("?")
    host, slash, path = location.partition("/")
    if forwarded := FORWARDED.fullmatch(path):
        path = path[: forwarded.start(1)] + shown_address(path[forwarded.start(1) :])
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}{'?…' if query else ''}"


def redacted(text: str) -> str:
    """Return a text, such as an error message, in which URLs have no credentials."""

    def shown(match: re.Match[str]) -> str:
        # What follows an address in a sentence is no part of its query.
        address = match[0].rstrip(".,:;")
        return shown_address(address) + match[0][len(address) :]

    return URL.sub(shown, text)
