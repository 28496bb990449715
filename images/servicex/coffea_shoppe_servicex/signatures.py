"""Verification of S3 signatures: version 4 in headers and URLs, version 2 in URLs.

The stock client signs its downloads with version 4.  The presigned URLs that it returns
have version 2 or, if a region is set, version 4; they last a year, longer than object
stores allow.  Sources: AWS, "Signature Version 4 signing process" and "Signing and
authenticating REST requests" (version 2).
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, unquote

LONGEST_LIFETIME_S = 366 * 86400
LARGEST_SKEW_S = 900
"""Maximum difference between the clocks of client and server."""
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
EMPTY_PAYLOAD = hashlib.sha256(b"").hexdigest()
BAD_LIFETIME = "the presigned URL has expired, is not valid yet, or lasts longer than a year"
SUBRESOURCES = frozenset(
    ["acl", "cors", "delete", "lifecycle", "location", "logging", "notification"]
    + ["partNumber", "policy", "requestPayment", "tagging", "torrent", "uploadId", "uploads"]
    + ["versionId", "versioning", "versions", "website"]
)
"""Query parameters, in addition to `response-…`, that a signature of version 2 covers."""


class SignatureError(Exception):
    """A request with an invalid signature; `code` is S3's error code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class SignedRequest:
    """The parts of an HTTP request that a signature covers."""

    method: str
    path: str
    """As sent, percent-encoded."""
    query: Sequence[tuple[str, str]]
    """Decoded, in the order as sent."""
    headers: Mapping[str, str]
    """By name in lower case."""

    def parameter(self, name: str) -> str:
        """Return a query parameter, or ''."""
        return next((value for key, value in self.query if key == name), "")

    @property
    def access_key(self) -> str:
        """Return the access key that the request names; raises `SignatureError` without one."""
        if key := self.parameter("AWSAccessKeyId"):
            return key
        if credential := self.parameter("X-Amz-Credential"):
            return credential.partition("/")[0]
        authorization = self.headers.get("authorization", "")
        if authorization.startswith("AWS4-HMAC-SHA256 "):
            return _fields(authorization).get("Credential", "").partition("/")[0]
        raise SignatureError("AccessDenied", "the request is not signed")

    def verify(self, secret: str, now: float) -> None:
        """Raise `SignatureError` unless `secret` signed this request and it has not expired."""
        if self.parameter("AWSAccessKeyId"):
            self._verify_v2_url(secret, now)
        elif self.parameter("X-Amz-Credential"):
            self._verify_v4_url(secret, now)
        else:
            self._verify_v4_headers(secret, now)

    def _verify_v2_url(self, secret: str, now: float) -> None:
        try:
            expires = int(self.parameter("Expires"))
        except ValueError as error:
            raise SignatureError("AccessDenied", "Expires is not a Unix time in seconds") from error
        if not now < expires < now + LONGEST_LIFETIME_S:
            raise SignatureError("AccessDenied", BAD_LIFETIME)
        covered = [
            f"{key}={value}" if value else key
            for key, value in sorted(self.query)
            if key in SUBRESOURCES or key.startswith("response-")
        ]
        resource = self.path + ("?" + "&".join(covered) if covered else "")
        content_type = self.headers.get("content-type", "")
        content_md5 = self.headers.get("content-md5", "")
        text = "\n".join([self.method, content_md5, content_type, str(expires)])
        # A bucket's path is signed with a trailing slash even if it is sent without.
        if self.path.count("/") == 1:
            resource = resource.replace(self.path, f"{self.path}/", 1)
        digest = hmac.new(secret.encode(), f"{text}\n{resource}".encode(), hashlib.sha1).digest()
        _compare(base64.b64encode(digest).decode(), self.parameter("Signature"))

    def _verify_v4_url(self, secret: str, now: float) -> None:
        try:
            lifetime = int(self.parameter("X-Amz-Expires"))
            signed_at = _unix_time(self.parameter("X-Amz-Date"))
        except ValueError as error:
            message = "X-Amz-Date or X-Amz-Expires is not valid"
            raise SignatureError("AccessDenied", message) from error
        valid = signed_at - LARGEST_SKEW_S <= now < signed_at + lifetime
        if not (valid and 0 < lifetime <= LONGEST_LIFETIME_S):
            raise SignatureError("AccessDenied", BAD_LIFETIME)
        names = self.parameter("X-Amz-SignedHeaders").split(";")
        scope = self.parameter("X-Amz-Credential").split("/")[1:]
        query = [pair for pair in self.query if pair[0] != "X-Amz-Signature"]
        date = self.parameter("X-Amz-Date")
        expected = self._signature(secret, scope, date, query, names, UNSIGNED_PAYLOAD)
        _compare(expected, self.parameter("X-Amz-Signature"))

    def _verify_v4_headers(self, secret: str, now: float) -> None:
        fields = _fields(self.headers.get("authorization", ""))
        date = self.headers.get("x-amz-date", "")
        try:
            signed_at = _unix_time(date)
        except ValueError as error:
            raise SignatureError("AccessDenied", "x-amz-date is not valid") from error
        if abs(now - signed_at) > LARGEST_SKEW_S:
            message = f"the clocks differ by more than {LARGEST_SKEW_S} s: set yours"
            raise SignatureError("RequestTimeTooSkewed", message)
        payload = self.headers.get("x-amz-content-sha256", EMPTY_PAYLOAD)
        names = fields.get("SignedHeaders", "").split(";")
        if not {"host", "x-amz-date"} <= set(names):
            raise SignatureError("AccessDenied", "host and x-amz-date must be signed")
        scope = fields.get("Credential", "").split("/")[1:]
        expected = self._signature(secret, scope, date, self.query, names, payload)
        _compare(expected, fields.get("Signature", ""))

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
            raise SignatureError("AccessDenied", "the credential scope does not match the date")
        pairs = sorted((quote(k, safe="-_.~"), quote(v, safe="-_.~")) for k, v in query)
        headers = "".join(f"{n}:{' '.join(self.headers.get(n, '').split())}\n" for n in names)
        canonical_request = "\n".join(
            [
                self.method,
                quote(unquote(self.path), safe="/-_.~"),
                "&".join(f"{key}={value}" for key, value in pairs),
                headers,
                ";".join(names),
                payload,
            ]
        )
        hashed = hashlib.sha256(canonical_request.encode()).hexdigest()
        text = "\n".join(["AWS4-HMAC-SHA256", date, "/".join(scope), hashed])
        key = f"AWS4{secret}".encode()
        for part in scope:
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _fields(authorization: str) -> dict[str, str]:
    """Return the fields of an Authorization header."""
    parts = authorization.partition(" ")[2].split(",")
    return dict(part.strip().partition("=")[::2] for part in parts)


def _unix_time(text: str) -> float:
    return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _compare(expected: str, signature: str) -> None:
    if not hmac.compare_digest(expected.encode(), signature.encode()):
        message = "the signature does not match: check secret key, method, path and query"
        raise SignatureError("SignatureDoesNotMatch", message)
