"""Signing keys, the revocation list, and the tokens of users and of the operator."""

import threading
from collections.abc import Mapping
from typing import Any, Protocol

import jwt
from coffea_shoppe_contract.claims import (
    CLOCK_LEEWAY_S,
    MAX_TOKEN_LIFETIME_S,
    SIGNING_ALGORITHM,
    token_claims,
)
from coffea_shoppe_contract.files import token_file

from coffea_shoppe_operator import builders
from coffea_shoppe_operator.keys import Key, KeyRing
from coffea_shoppe_operator.models import FacilityUser, Settings

KEYS_DOCUMENT = "keys.json"
REVOCATIONS_DOCUMENT = "revocations.json"
CACHE_S = 10
"""Lifetime of cached keys: they are not read again for each user."""


class Cluster(Protocol):
    """What keeps and publishes keys; `storage.Storage` is the real one."""

    def read_secret(self, namespace: str, name: str) -> dict[str, bytes] | None: ...  # noqa: D102
    def write_secret(self, secret: dict[str, Any]) -> None: ...  # noqa: D102
    def read_published(self, namespace: str, name: str) -> dict[str, Any]: ...  # noqa: D102
    def write_published(  # noqa: D102
        self, namespace: str, name: str, documents: Mapping[str, Any], labels: Mapping[str, str]
    ) -> None: ...


class SigningKeys:
    """The facility's signing keys in a Secret; their public halves and revocations, published."""

    def __init__(self, settings: Settings, cluster: Cluster) -> None:
        self.settings, self.cluster = settings, cluster
        # Handlers run concurrently; keys and revocations are one document each.
        self._lock = threading.Lock()
        self._cached: KeyRing | None = None
        self._read_at = 0.0

    def current(self, now: float) -> KeyRing:
        """Return the keys; rotate, store and publish them where that is due."""
        settings = self.settings
        with self._lock:
            if self._cached and 0 <= now - self._read_at < CACHE_S:
                return self._cached
            ring = self._stored()
            renewed = ring.renewed(now)
            if renewed != ring:
                self.cluster.write_secret(
                    builders.secret(
                        settings.keys_secret, settings.namespace, renewed.dump(), settings.labels
                    )
                )
            self._publish(renewed, None, now)
            self._cached, self._read_at = renewed, now
        return renewed

    def revoke(self, uid: str, now: float) -> None:
        """Revoke all tokens that were issued until now to a user."""
        with self._lock:
            self._publish(self._stored(), uid, now)

    def _stored(self) -> KeyRing:
        settings = self.settings
        return KeyRing.load(
            self.cluster.read_secret(settings.namespace, settings.keys_secret) or {}
        )

    def _publish(self, ring: KeyRing, revoked_uid: str | None, now: float) -> None:
        settings = self.settings
        published = self.cluster.read_published(settings.namespace, settings.published)
        revoked = published.get(REVOCATIONS_DOCUMENT, {}).get("revoked", {})
        documents = {
            KEYS_DOCUMENT: ring.published(),
            REVOCATIONS_DOCUMENT: {"revoked": revocations(revoked, revoked_uid, now=now)},
        }
        if documents != published:
            self.cluster.write_published(
                settings.namespace, settings.published, documents, settings.labels
            )


def revocations(revoked: Mapping[str, float], uid: str | None, *, now: float) -> dict[str, float]:
    """Return the revocation list, with a uid added where one is given.

    A revocation is dropped when all tokens that it voids have expired.
    """
    effective = {
        revoked_uid: until
        for revoked_uid, until in revoked.items()
        if now <= until + MAX_TOKEN_LIFETIME_S + 2 * CLOCK_LEEWAY_S
    }
    return effective | ({uid: float(int(now))} if uid else {})


def published_keys(documents: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the published keys and revocations; raises `KeyError` where there are none yet."""
    return documents[KEYS_DOCUMENT], documents[REVOCATIONS_DOCUMENT]


def admin_token(audience: str, key: Key, settings: Settings, *, now: float) -> str:
    """Return a token of the operator for a service."""
    return key.sign(
        token_claims(
            issuer=settings.issuer,
            audience=audience,
            user="operator",
            uid="operator",
            groups=(),
            now=now,
            lifetime=settings.token_lifetime,
        )
    )


def user_token(
    user: FacilityUser, audience: str, key: Key, settings: Settings, *, now: float
) -> str:
    """Return a user's token for a service."""
    return key.sign(
        token_claims(
            issuer=settings.issuer,
            audience=audience,
            user=user.spec.username,
            uid=user.uid,
            groups=tuple(user.spec.groups),
            now=now,
            lifetime=settings.token_lifetime,
        )
    )


def user_tokens(
    user: FacilityUser, key: Key, settings: Settings, *, now: float
) -> dict[str, bytes]:
    """Return a new token for each service, by the name of its file."""
    return {
        token_file(audience): user_token(user, audience, key, settings, now=now).encode()
        for audience in settings.audiences
    }


def shortest_remaining_s(
    user: FacilityUser,
    files: Mapping[str, bytes],
    ring: KeyRing,
    settings: Settings,
    *,
    now: float,
) -> float | None:
    """Return the time for which all tokens in a user's files are valid, in seconds.

    None where a token must be replaced at once: its signature is invalid, or it has other
    claims than the user.
    """
    keys = {key.kid: key.private.public_key() for key in ring.keys}
    shortest = float("inf")
    for audience in settings.audiences:
        claims = {
            "sub": user.spec.username,
            "uid": user.uid,
            "groups": user.spec.groups,
            "iss": settings.issuer,
            "aud": audience,
        }
        remaining = _remaining_s(files[token_file(audience)], claims, keys, now)
        if remaining is None:
            return None
        shortest = min(shortest, remaining)
    return shortest


def _remaining_s(
    token: bytes, expected: Mapping[str, Any], keys: Mapping[str, Any], now: float
) -> float | None:
    """Return the seconds until a token expires; None where it is not as expected."""
    try:
        kid = jwt.get_unverified_header(token).get("kid", "")
        if kid not in keys:
            raise jwt.InvalidKeyError(kid)
        claims = jwt.decode(
            token,
            keys[kid],
            algorithms=[SIGNING_ALGORITHM],
            options={"verify_exp": False, "verify_aud": False, "verify_iat": False},
        )
    except jwt.PyJWTError:
        # An expired token of a deleted key is renewed with the next pod.
        return 0.0 if _has_expired(token, now) else None
    matches = all(claims.get(name) == value for name, value in expected.items())
    return float(claims["exp"]) - now if matches else None


def _has_expired(token: bytes, now: float) -> bool:
    try:
        return expiry(token) < now
    except (jwt.PyJWTError, KeyError):
        return False


def expiry(token: bytes) -> int:
    """Return the Unix time at which a token expires; its signature is not verified."""
    return int(jwt.decode(token, options={"verify_signature": False})["exp"])
