"""Where a cache's credential comes from: a Secret has it, or has what it is issued for.

A VOMS server issues the attributes of a robot certificate's proxies, and an OAuth 2.0 server the
access tokens of a client (RFC 6749, 4.4: the grant of client credentials).
"""

import base64
import json
import os
import re
import ssl
import subprocess
import textwrap
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from xcache_exporter.credentials import ENDS, UnusableCredentialError, replace

PROXY_BITS = "2048"
VOMS_TIMEOUT_S = 60
REQUEST_TIMEOUT_S = 20
RESPONSE_BYTES = 1 << 20
"""An issuer's response is read up to here."""
MESSAGE_LENGTH = 300
DISCOVERY = ".well-known/openid-configuration"
WARNINGS = re.compile(r"^(\.+|Cannot open file.*|Function:.*)$")
"""Lines of `voms-proxy-init` that say nothing about a failure."""


class Source(Protocol):
    """Where a credential comes from."""

    @property
    def kind(self) -> str:
        """What it is: proxy or token."""

    @property
    def is_issued(self) -> bool:
        """Whether another one can be had at any time."""

    def read(self) -> dict[str, bytes]:
        """Return the Secret's keys; raises `UnusableCredentialError`."""

    def credential(self, secret: dict[str, bytes]) -> tuple[bytes, float]:
        """Return a credential, and its end in seconds since 1970.

        Raises `UnusableCredentialError` and `OSError`.
        """


def _read(folder: Path, keys: Sequence[str]) -> dict[str, bytes]:
    """Return keys of a mounted Secret."""
    secret = {}
    for key in keys:
        try:
            secret[key] = (folder / key).read_bytes()
        except OSError as error:
            message = f"the Secret's {key} cannot be read: {error.strerror}"
            raise UnusableCredentialError(message) from None
    return secret


@dataclass(frozen=True)
class Given:
    """A proxy or token that somebody puts into the Secret, under the key of its kind."""

    folder: Path
    kind: str
    is_issued = False

    def read(self) -> dict[str, bytes]:
        """Return the Secret's keys."""
        return _read(self.folder, [self.kind])

    def credential(self, secret: dict[str, bytes]) -> tuple[bytes, float]:
        """Return the Secret's credential."""
        content = secret[self.kind]
        return content, ENDS[self.kind](content)


@dataclass(frozen=True)
class Robot:
    """A certificate, with which VOMS proxies are made; its Secret is one for TLS."""

    folder: Path
    work: Path
    """A folder in memory that only this process sees."""
    attributes: Sequence[str]
    """VO[:GROUP/Role=ROLE], as `voms-proxy-init -voms` takes them."""
    servers: Sequence[str]
    """Lines of the file vomses."""
    lifetime: str
    """H:MM."""
    kind = "proxy"
    is_issued = True

    def read(self) -> dict[str, bytes]:
        """Return certificate and key."""
        return _read(self.folder, ["tls.crt", "tls.key"])

    def credential(self, secret: dict[str, bytes]) -> tuple[bytes, float]:
        """Make a proxy; it ends with its attributes, if these end first."""
        for key, content in secret.items():
            # voms-proxy-init refuses a key that others may read.
            replace(self.work / key, content)
        vomses, proxy = self.work / "vomses", self.work / "proxy"
        replace(vomses, "".join(f"{line}\n" for line in self.servers).encode())
        # It refuses a list of servers that its group cannot read.
        vomses.chmod(0o644)
        proxy.unlink(missing_ok=True)
        try:
            self._run(
                *("voms-proxy-init", "-quiet", "-rfc", "-bits", PROXY_BITS, "-out", str(proxy)),
                *("-cert", str(self.work / "tls.crt"), "-key", str(self.work / "tls.key")),
                *(word for each in self.attributes for word in ("-voms", each)),
                *("-vomses", str(vomses), "-valid", self.lifetime),
                # The server is known by its certificate; the origin verifies the attributes.
                "-dont-verify-ac",
            )
            left = self._run("voms-proxy-info", "-file", str(proxy), "-actimeleft")
            content = proxy.read_bytes()
        finally:
            proxy.unlink(missing_ok=True)
        seconds = min((int(line) for line in left.split() if line.isdecimal()), default=0)
        return content, min(ENDS[self.kind](content), time.time() + seconds)

    def _run(self, *command: str) -> str:
        """Return what a program of VOMS prints; raises `UnusableCredentialError`."""
        random = self.work / ".rnd"
        environment = os.environ | {"HOME": str(self.work), "RANDFILE": str(random)}
        random.touch()
        try:
            process = subprocess.run(
                command,
                capture_output=True,
                stdin=subprocess.DEVNULL,
                text=True,
                errors="replace",
                env=environment,
                timeout=VOMS_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            message = f"{command[0]} has not ended within {VOMS_TIMEOUT_S} s"
            raise UnusableCredentialError(message) from None
        if process.returncode != 0:
            raise UnusableCredentialError(f"{command[0]}: {_cause(process.stderr)}")
        return process.stdout


def _cause(output: str) -> str:
    """Return the lines of an output that say what failed, as one."""
    lines = (line.strip(". \t") for line in output.replace("\r", "\n").splitlines())
    reason = " ".join(line for line in lines if line and not WARNINGS.match(line))
    return textwrap.shorten(reason, MESSAGE_LENGTH, placeholder=" …") or "it gives no reason"


@dataclass(frozen=True)
class Client:
    """A client of an OAuth 2.0 server, which issues WLCG tokens."""

    folder: Path
    issuer: str
    """URL whose discovery document names the token endpoint."""
    scopes: Sequence[str]
    audience: str
    kind = "token"
    is_issued = True

    def read(self) -> dict[str, bytes]:
        """Return the client's name and secret."""
        return _read(self.folder, ["client-id", "client-secret"])

    def credential(self, secret: dict[str, bytes]) -> tuple[bytes, float]:
        """Request an access token."""
        name, password = (urllib.parse.quote(value.strip()) for value in secret.values())
        login = base64.b64encode(f"{name}:{password}".encode()).decode()
        discovered = _fetch(f"{self.issuer.rstrip('/')}/{DISCOVERY}")
        endpoint = discovered.get("token_endpoint")
        if not isinstance(endpoint, str):
            raise UnusableCredentialError(
                f"{self.issuer} names no token endpoint: is it an issuer?"
            )
        form = {"grant_type": "client_credentials", "scope": " ".join(self.scopes)}
        if self.audience:
            form["audience"] = self.audience
        headers = {"Authorization": f"Basic {login}"}
        response = _fetch(endpoint, urllib.parse.urlencode(form).encode(), headers)
        token = response.get("access_token")
        if not isinstance(token, str):
            raise UnusableCredentialError(f"{endpoint} gives no access token")
        content = token.encode()
        return content, ENDS[self.kind](content)


def _fetch(url: str, form: bytes | None = None, headers: dict[str, str] | None = None) -> Any:
    """Return the JSON object at a URL; raises `UnusableCredentialError`.

    A host is verified by the public authorities, and by those of the grid.
    """
    if not url.startswith("https://"):
        raise UnusableCredentialError(f"{url} is not encrypted: an issuer is https://…")
    context = ssl.create_default_context()
    if folder := os.environ.get("X509_CERT_DIR"):
        for certificate in Path(folder).glob("*.[0-9]"):
            context.load_verify_locations(certificate)
    request = urllib.request.Request(url, form, headers or {})  # noqa: S310  (https, see above)
    try:
        with urllib.request.urlopen(  # noqa: S310
            request, timeout=REQUEST_TIMEOUT_S, context=context
        ) as response:
            content = json.loads(response.read(RESPONSE_BYTES))
    except urllib.error.HTTPError as error:
        raise UnusableCredentialError(f"{url}: {_refusal(error)}") from None
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise UnusableCredentialError(f"{url} does not respond: {reason}") from None
    except ValueError:
        raise UnusableCredentialError(f"{url} gives no JSON: is it an issuer?") from None
    if not isinstance(content, dict):
        raise UnusableCredentialError(f"{url} gives no JSON object: is it an issuer?")
    return content


def _refusal(error: urllib.error.HTTPError) -> str:
    """Return why a server refuses a request, in OAuth's words if it uses them."""
    status = f"HTTP {error.code}"
    try:
        content = json.loads(error.read(RESPONSE_BYTES))
        words = [content[key] for key in ("error", "error_description") if key in content]
        detail = textwrap.shorten(": ".join(map(str, words)), MESSAGE_LENGTH, placeholder=" …")
    except (ValueError, TypeError, OSError):
        return status
    return f"{status}, {detail}" if detail else status
