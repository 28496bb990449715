"""Signatures of S3 requests: version 4 in headers and addresses, version 2 in addresses.

The stock client signs its downloads by version 4, and the addresses that it hands out
by version 2 or, where a region is set, by version 4, for a year: longer than stores
allow.  Sources: AWS, "Signature Version 4 signing process" and "Signing and
authenticating REST requests" (version 2).
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, unquote

LONGEST_S = 366 * 86400
SKEW_S = 900
UNSIGNED = "UNSIGNED-PAYLOAD"
EMPTY = hashlib.sha256(b"").hexdigest()
SUBRESOURCES = frozenset(
    ["acl", "cors", "delete", "lifecycle", "location", "logging", "notification"]
    + ["partNumber", "policy", "requestPayment", "tagging", "torrent", "uploadId", "uploads"]
    + ["versionId", "versioning", "versions", "website"]
)
"""What a signature of version 2 covers of an address' query, besides `response-…`."""


class SignatureError(Exception):
    """A request whose signature is not good; `code` is S3's word for why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Signed:
    """A request as it came in."""

    method: str
    path: str
    """As it was sent, percent-encoded."""
    query: Sequence[tuple[str, str]]
    """Decoded, in the order in which it was sent."""
    headers: Mapping[str, str]
    """Names in small letters."""

    def parameter(self, name: str) -> str:
        """Return a part of the query, or ''."""
        return next((value for key, value in self.query if key == name), "")

    @property
    def access_key(self) -> str:
        """Return whose signature it claims to carry; raises `SignatureError` if nobody's."""
        if key := self.parameter("AWSAccessKeyId"):
            return key
        if credential := self.parameter("X-Amz-Credential"):
            return credential.partition("/")[0]
        authorization = self.headers.get("authorization", "")
        if authorization.startswith("AWS4-HMAC-SHA256 "):
            return _parts(authorization).get("Credential", "").partition("/")[0]
        raise SignatureError("AccessDenied", "the request is not signed")

    def verify(self, secret: str, now: float) -> None:
        """Raise `SignatureError` unless the request is signed with `secret` and still good."""
        if self.parameter("AWSAccessKeyId"):
            self._version_2(secret, now)
        elif self.parameter("X-Amz-Credential"):
            self._version_4_address(secret, now)
        else:
            self._version_4_headers(secret, now)

    def _version_2(self, secret: str, now: float) -> None:
        try:
            expires = int(self.parameter("Expires"))
        except ValueError as error:
            raise SignatureError("AccessDenied", "Expires is no time") from error
        if not now < expires < now + LONGEST_S:
            raise SignatureError("AccessDenied", "the address has expired, or is good for too long")
        covered = [
            f"{key}={value}" if value else key
            for key, value in sorted(self.query)
            if key in SUBRESOURCES or key.startswith("response-")
        ]
        resource = self.path + ("?" + "&".join(covered) if covered else "")
        kind = self.headers.get("content-type", "")
        text = "\n".join([self.method, self.headers.get("content-md5", ""), kind, str(expires)])
        # A bucket's path is signed with a slash at its end, whether it is sent so or not.
        if self.path.count("/") == 1:
            resource = resource.replace(self.path, f"{self.path}/", 1)
        digest = hmac.new(secret.encode(), f"{text}\n{resource}".encode(), hashlib.sha1).digest()
        _same(base64.b64encode(digest).decode(), self.parameter("Signature"))

    def _version_4_address(self, secret: str, now: float) -> None:
        try:
            lifetime = int(self.parameter("X-Amz-Expires"))
            began = _moment(self.parameter("X-Amz-Date"))
        except ValueError as error:
            raise SignatureError("AccessDenied", "X-Amz-Date or -Expires is no time") from error
        if not (0 < lifetime <= LONGEST_S and began - SKEW_S <= now < began + lifetime):
            raise SignatureError("AccessDenied", "the address has expired, or is good for too long")
        names = self.parameter("X-Amz-SignedHeaders").split(";")
        scope = self.parameter("X-Amz-Credential").split("/")[1:]
        query = [pair for pair in self.query if pair[0] != "X-Amz-Signature"]
        date = self.parameter("X-Amz-Date")
        expected = self._signature(secret, scope, date, query, names, UNSIGNED)
        _same(expected, self.parameter("X-Amz-Signature"))

    def _version_4_headers(self, secret: str, now: float) -> None:
        told = _parts(self.headers.get("authorization", ""))
        date = self.headers.get("x-amz-date", "")
        try:
            began = _moment(date)
        except ValueError as error:
            raise SignatureError("AccessDenied", "x-amz-date is no time") from error
        if abs(now - began) > SKEW_S:
            raise SignatureError("RequestTimeTooSkewed", "the clocks differ by too much")
        payload = self.headers.get("x-amz-content-sha256", EMPTY)
        names = told.get("SignedHeaders", "").split(";")
        if not {"host", "x-amz-date"} <= set(names):
            raise SignatureError("AccessDenied", "host and x-amz-date must be signed")
        scope = told.get("Credential", "").split("/")[1:]
        expected = self._signature(secret, scope, date, self.query, names, payload)
        _same(expected, told.get("Signature", ""))

    def _signature(
        self,
        secret: str,
        scope: Sequence[str],
        date: str,
        query: Sequence[tuple[str, str]],
        names: Sequence[str],
        payload: str,
    ) -> str:
        if len(scope) != 4 or scope[0] != date[:8]:
            raise SignatureError("AccessDenied", "the credential's scope is not of this request")
        pairs = sorted((quote(k, safe="-_.~"), quote(v, safe="-_.~")) for k, v in query)
        headers = "".join(f"{n}:{' '.join(self.headers.get(n, '').split())}\n" for n in names)
        request = "\n".join(
            [
                self.method,
                quote(unquote(self.path), safe="/-_.~"),
                "&".join(f"{key}={value}" for key, value in pairs),
                headers,
                ";".join(names),
                payload,
            ]
        )
        hashed = hashlib.sha256(request.encode()).hexdigest()
        text = "\n".join(["AWS4-HMAC-SHA256", date, "/".join(scope), hashed])
        key = f"AWS4{secret}".encode()
        for part in scope:
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _parts(authorization: str) -> dict[str, str]:
    fields = authorization.partition(" ")[2].split(",")
    return dict(field.strip().partition("=")[::2] for field in fields)


def _moment(text: str) -> float:
    return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _same(expected: str, found: str) -> None:
    if not hmac.compare_digest(expected.encode(), found.encode()):
        raise SignatureError("SignatureDoesNotMatch", "the signature is not of this request")
