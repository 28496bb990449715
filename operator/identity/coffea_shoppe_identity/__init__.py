"""Verification of the facility's signed tokens, for every service that accepts them.

    verifier = Verifier(Published(url), issuer="…", audience="servicex")
    identity = verifier.verify(token)

A package of its own beside the contract: the contract is of the standard library
alone, and a service must not import the operator.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import jwt
import requests
from coffea_shoppe_contract import identity
from coffea_shoppe_contract.identity import Identity, RefusedError

__all__ = ["Identity", "News", "Published", "RefusedError", "Verifier", "bearer"]


def bearer(header: str) -> str:
    """Return the token of an Authorization header (RFC 6750); raises `RefusedError`."""
    kind, _, token = header.partition(" ")
    if kind.lower() != "bearer" or not token:
        raise RefusedError(
            "send the facility's token for this service as Authorization: Bearer; "
            "in the facility's pods its clients find it by themselves"
        )
    return token


@dataclass(frozen=True)
class News:
    """What the facility publishes for those who verify."""

    keys: Mapping[str, jwt.PyJWK]
    """Public keys by their `kid`."""
    revoked: Mapping[str, float]
    """By a user's uid: the time (Unix) up to which tokens are void."""

    @classmethod
    def parse(cls, keys: dict[str, Any], revocations: dict[str, Any]) -> "News":
        """Return the news of a JSON Web Key Set and a list of revocations.

        Raises `ValueError` where they are not of that form.
        """
        try:
            known = {entry["kid"]: jwt.PyJWK(entry) for entry in keys["keys"]}
            revoked = {uid: float(until) for uid, until in revocations["revoked"].items()}
        except (KeyError, TypeError, AttributeError, jwt.PyJWTError) as error:
            raise ValueError(f"what the facility published cannot be read: {error}") from error
        return cls(known, revoked)


class Source(Protocol):
    """Where news comes from; a call may raise any exception."""

    def __call__(self) -> News:
        """Return the latest news."""


class Published:
    """The news that a facility API publishes."""

    def __init__(self, url: str, *, timeout: float = 5) -> None:
        self.url, self.timeout = url.rstrip("/"), timeout

    def __call__(self) -> News:
        """Fetch the news."""
        parts = []
        for path in (identity.KEYS_PATH, identity.REVOCATIONS_PATH):
            answer = requests.get(f"{self.url}{path}", timeout=self.timeout)
            answer.raise_for_status()
            parts.append(answer.json())
        return News.parse(*parts)


class Verifier:
    """Verifies tokens for one service, with news that a thread keeps fresh.

    A service that has had no news for `STALE_S` refuses everybody: it cannot know
    who was revoked meanwhile.
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
        self._news: News | None = None
        self._fetched = 0.0
        self._problem = ""

    def refresh(self) -> bool:
        """Fetch the news now; return whether there were any."""
        try:
            self._news = self.source()
        except Exception as error:
            self._problem = f"{type(error).__name__}: {error}"
            return False
        self._fetched, self._problem = self.clock(), ""
        return True

    def start(self) -> None:
        """Keep the news fresh from now on, in a thread that ends with the process."""
        self.refresh()

        def keep() -> None:
            while True:
                time.sleep(identity.POLL_S)
                self.refresh()

        threading.Thread(target=keep, daemon=True, name="identity-news").start()

    def verify(self, token: str, *, audience: str | None = None) -> Identity:
        """Return whose token this is; raises `RefusedError`.

        `audience` is another one than the service's own, for its administrators.
        """
        news = self._current()
        try:
            kid = jwt.get_unverified_header(token).get("kid", "")
            key = news.keys.get(kid)
            if key is None:
                raise RefusedError("the token is signed by an unknown key")
            # What is claimed is judged by the contract, once for all services.
            checks = dict.fromkeys(("exp", "iat", "aud", "iss", "sub"), False)
            said = jwt.decode(
                token,
                key,
                algorithms=[identity.ALGORITHM],
                options={f"verify_{name}": on for name, on in checks.items()},  # type: ignore[arg-type]
            )
        except jwt.PyJWTError as error:
            raise RefusedError(f"this is no token of the facility ({error})") from error
        return self.judge(said, issuer=self.issuer, audience=audience)

    def _current(self) -> News:
        """Return the news; raises `RefusedError` where they are too old."""
        if self._news is None or self.clock() - self._fetched > identity.STALE_S:
            raise RefusedError(f"the facility's keys cannot be had ({self._problem or 'not yet'})")
        return self._news

    def judge(
        self, said: Mapping[str, Any], *, issuer: str, audience: str | None = None
    ) -> Identity:
        """Return whose claims these are, their signature being good; raises `RefusedError`.

        So a service judges tokens that it signed itself, as `issuer`.
        """
        return identity.identify(
            said,
            issuer=issuer,
            audience=audience or self.audience,
            now=self.clock(),
            revoked=self._current().revoked,
        )

    @property
    def revoked(self) -> Mapping[str, float]:
        """By a user's uid: the time (Unix) up to which access is void; raises `RefusedError`."""
        return self._current().revoked
