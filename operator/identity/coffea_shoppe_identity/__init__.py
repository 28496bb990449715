"""Verification of the facility's signed tokens, for every service that accepts them.

    verifier = Verifier(Published(url), issuer="…", audience="servicex")
    identity = verifier.verify(token)

This is a package beside the contract because the contract depends on the standard library
only, and no service may import the operator.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import jwt
import requests
from coffea_shoppe_contract.api import KEYS_PATH, REVOCATIONS_PATH
from coffea_shoppe_contract.claims import (
    MAX_AGE_S,
    POLL_INTERVAL_S,
    SIGNING_ALGORITHM,
    Identity,
    RefusedError,
    verify_claims,
)

__all__ = ["Identity", "Published", "RefusedError", "VerificationData", "Verifier", "bearer"]


def bearer(header: str) -> str:
    """Return the token of an Authorization header (RFC 6750); raises `RefusedError`."""
    kind, _, token = header.partition(" ")
    if kind.lower() != "bearer" or not token:
        raise RefusedError(
            "send the facility's token for this service as Authorization: Bearer; "
            "clients in the facility's pods read it by themselves"
        )
    return token


@dataclass(frozen=True)
class VerificationData:
    """The facility's published keys and revocation list."""

    keys: Mapping[str, jwt.PyJWK]
    """Public keys by their `kid`."""
    revoked: Mapping[str, float]
    """A user's uid → the Unix time up to which issued tokens are void."""

    @classmethod
    def parse(cls, keys: dict[str, Any], revocations: dict[str, Any]) -> "VerificationData":
        """Parse a JSON Web Key Set and a revocation list; raises `ValueError`."""
        try:
            keys_by_id = {entry["kid"]: jwt.PyJWK(entry) for entry in keys["keys"]}
            revoked = {uid: float(until) for uid, until in revocations["revoked"].items()}
        except (KeyError, TypeError, AttributeError, jwt.PyJWTError) as error:
            raise ValueError(
                f"the facility's keys or revocation list are invalid: {error}"
            ) from error
        return cls(keys_by_id, revoked)


class Source(Protocol):
    """Where verification data come from; a call may raise any exception."""

    def __call__(self) -> VerificationData:
        """Return the latest data."""


class Published:
    """Fetches JWKS and revocation list from a facility API."""

    def __init__(self, url: str, *, timeout: float = 5) -> None:
        self.url, self.timeout = url.rstrip("/"), timeout

    def __call__(self) -> VerificationData:
        """Fetch both."""
        documents = []
        for path in (KEYS_PATH, REVOCATIONS_PATH):
            response = requests.get(f"{self.url}{path}", timeout=self.timeout)
            response.raise_for_status()
            documents.append(response.json())
        return VerificationData.parse(*documents)


class Verifier:
    """Verifies tokens for one service; a thread refreshes the verification data.

    Data older than `MAX_AGE_S` refuse every token: a user may have been revoked since.
    """

    def __init__(
        self,
        source: Source,
        *,
        issuer: str,
        audience: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.source, self.issuer, self.audience, self.clock = source, issuer, audience, clock
        self._data: VerificationData | None = None
        self._fetched = 0.0
        self._problem = ""

    def refresh(self) -> bool:
        """Fetch the verification data now; return whether that succeeded."""
        try:
            self._data = self.source()
        except Exception as error:
            self._problem = f"{type(error).__name__}: {error}"
            return False
        self._fetched, self._problem = self.clock(), ""
        return True

    def start(self) -> None:
        """Refresh periodically from now on, in a daemon thread."""
        self.refresh()

        def refresh_periodically() -> None:
            while True:
                time.sleep(POLL_INTERVAL_S)
                self.refresh()

        threading.Thread(target=refresh_periodically, daemon=True, name="verification-data").start()

    def verify(self, token: str, *, audience: str | None = None) -> Identity:
        """Return the user of a token; raises `RefusedError`.

        `audience` replaces the service's own, for tokens of its administrators.
        """
        current = self._current()
        try:
            kid = jwt.get_unverified_header(token).get("kid", "")
            key = current.keys.get(kid)
            if key is None:
                raise RefusedError("the token is signed by an unknown key")
            # The contract checks the claims, in the same way for all services.
            checks = dict.fromkeys(("exp", "iat", "aud", "iss", "sub"), False)
            claims = jwt.decode(
                token,
                key,
                algorithms=[SIGNING_ALGORITHM],
                options={f"verify_{name}": on for name, on in checks.items()},  # type: ignore[arg-type]
            )
        except jwt.PyJWTError as error:
            raise RefusedError(f"this is not a token of the facility ({error})") from error
        return self.check_claims(claims, issuer=self.issuer, audience=audience)

    def _current(self) -> VerificationData:
        """Return the verification data; raises `RefusedError` where they are too old."""
        if self._data is None or self.clock() - self._fetched > MAX_AGE_S:
            raise RefusedError(
                f"the facility's keys are unavailable ({self._problem or 'not fetched yet'})"
            )
        return self._data

    def check_claims(
        self, claims: Mapping[str, Any], *, issuer: str, audience: str | None = None
    ) -> Identity:
        """Return the user of claims whose signature is valid; raises `RefusedError`.

        A service checks the tokens that it signed itself, as `issuer`, in this way.
        """
        return verify_claims(
            claims,
            issuer=issuer,
            audience=audience or self.audience,
            now=self.clock(),
            revoked=self._current().revoked,
        )

    @property
    def revoked(self) -> Mapping[str, float]:
        """A user's uid → the Unix time up to which access is void; raises `RefusedError`."""
        return self._current().revoked
