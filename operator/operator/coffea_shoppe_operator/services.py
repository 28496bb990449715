"""What is done for keys and users; each call converges and then writes nothing."""

import json
import threading
from collections.abc import Mapping
from typing import Any, Protocol

import jwt
from coffea_shoppe_contract import identity

from coffea_shoppe_operator import builders
from coffea_shoppe_operator.keys import KeyRing
from coffea_shoppe_operator.models import FacilityUser, FacilityUserStatus, Settings

KEYS_DOCUMENT = "keys.json"
REVOCATIONS_DOCUMENT = "revocations.json"
USER_LABEL = f"{identity.GROUP}/user"
WANTED_S = 300
"""Tokens are kept fresh for so long after somebody asked, pods or no pods."""


class Cluster(Protocol):
    """What the services need of the cluster; `storage.Storage` is the real one."""

    def read_secret(self, namespace: str, name: str) -> dict[str, bytes] | None: ...  # noqa: D102
    def write_secret(self, wanted: dict[str, Any]) -> None: ...  # noqa: D102
    def delete_secret(self, namespace: str, name: str) -> None: ...  # noqa: D102
    def read_published(self, namespace: str, name: str) -> dict[str, Any]: ...  # noqa: D102
    def write_published(  # noqa: D102
        self, namespace: str, name: str, documents: Mapping[str, Any], labels: Mapping[str, str]
    ) -> None: ...
    def has_pods(self, namespace: str, labels: Mapping[str, str]) -> bool: ...  # noqa: D102
    def delete_pods(self, namespace: str, labels: Mapping[str, str]) -> None: ...  # noqa: D102


class Facility:
    """Keys, revocations and users of one facility."""

    def __init__(self, settings: Settings, cluster: Cluster) -> None:
        self.settings, self.cluster = settings, cluster
        # Handlers run side by side; keys and revocations are one document each.
        self._publishing = threading.Lock()

    def keys(self, now: float) -> KeyRing:
        """Return the keys, renewed, stored and published where that was due."""
        settings = self.settings
        with self._publishing:
            stored = self.cluster.read_secret(settings.namespace, settings.keys_secret) or {}
            ring = KeyRing.load(stored)
            renewed = ring.renewed(now)
            if renewed != ring:
                self.cluster.write_secret(
                    builders.secret(
                        settings.keys_secret, settings.namespace, renewed.dump(), settings.labels
                    )
                )
            self._publish(renewed, None, now)
        return renewed

    def _publish(self, ring: KeyRing, revoke: str | None, now: float) -> None:
        settings = self.settings
        before = self.cluster.read_published(settings.namespace, settings.published)
        revoked = before.get(REVOCATIONS_DOCUMENT, {}).get("revoked", {})
        wanted = {
            KEYS_DOCUMENT: ring.published(),
            REVOCATIONS_DOCUMENT: {"revoked": builders.revocations(revoked, revoke, now=now)},
        }
        if wanted != before:
            self.cluster.write_published(
                settings.namespace, settings.published, wanted, settings.labels
            )

    def revoke(self, user: FacilityUser, now: float) -> None:
        """Make void whatever the user holds; remove the user's Secrets, stop the pods."""
        settings = self.settings
        with self._publishing:
            stored = self.cluster.read_secret(settings.namespace, settings.keys_secret) or {}
            self._publish(KeyRing.load(stored), user.uid, now)
        self._remove(user)

    def _remove(self, user: FacilityUser) -> None:
        """Remove the user's Secrets and stop the user's pods, where there are any."""
        name = identity.secret_name(user.spec.username)
        label = {USER_LABEL: user.name}
        for namespace in self.settings.user_namespaces:
            if self.cluster.read_secret(namespace, name) is not None:
                self.cluster.delete_secret(namespace, name)
            if self.cluster.has_pods(namespace, label):
                self.cluster.delete_pods(namespace, label)

    def reconcile(self, user: FacilityUser, now: float) -> FacilityUserStatus:
        """Bring about what a user's resource asks for; return its status."""
        if identity.resource_name(user.spec.username) != user.name:
            expected = identity.resource_name(user.spec.username)
            told = f"the resource of {user.spec.username!r} must be named {expected!r}"
            return FacilityUserStatus(conditions=[builders.ready(False, "WrongName", told)])
        if user.spec.disabled:
            disabled = builders.ready(False, "Disabled", "the user is disabled: spec.disabled")
            if disabled in user.status.conditions:
                self._remove(user)  # should anything have come back
            else:
                self.revoke(user, now)
            return FacilityUserStatus(conditions=[disabled])
        name = identity.secret_name(user.spec.username)
        labels = {**self.settings.labels, USER_LABEL: user.name}
        held = {
            namespace: self.cluster.read_secret(namespace, name)
            for namespace in self.settings.user_namespaces
        }
        files = self._files(user, held[self.settings.user_namespaces[0]], now)
        for namespace, present in held.items():
            if present != files:
                self.cluster.write_secret(builders.secret(name, namespace, files, labels))
        until = min(_expiry(files[identity.token_file(a)]) for a in identity.AUDIENCES)
        condition = builders.ready(True, "Ready", "tokens and connections are in the Secret")
        return FacilityUserStatus(secret_name=name, valid_until=until, conditions=[condition])

    def _files(
        self, user: FacilityUser, held: dict[str, bytes] | None, now: float
    ) -> dict[str, bytes]:
        """Return what the user's Secret should hold: what it holds, or fresh tokens."""
        ring = self.keys(now)
        fresh = builders.user_files(user, ring.signing(now), self.settings, now=now)
        if held is None or set(held) != set(fresh):
            return fresh
        known = {key.kid: key.private.public_key() for key in ring.keys}
        for audience in identity.AUDIENCES:
            left = self._left(user, held[identity.token_file(audience)], audience, known, now)
            if left is None or (left < identity.LIFETIME_S / 2 and self._active(user, now)):
                return fresh
        return {**held, identity.CONNECTIONS_FILE: fresh[identity.CONNECTIONS_FILE]}

    def _left(
        self,
        user: FacilityUser,
        token: bytes,
        audience: str,
        known: Mapping[str, Any],
        now: float,
    ) -> float | None:
        """Return the seconds that a stored token has left; None where it is not as it should be."""
        try:
            kid = jwt.get_unverified_header(token).get("kid", "")
            said = jwt.decode(
                token,
                known.get(kid, ""),
                algorithms=[identity.ALGORITHM],
                options={"verify_exp": False, "verify_aud": False, "verify_iat": False},
            )
        except jwt.PyJWTError:
            # An expired token of a key that is gone is renewed with the next pod.
            return 0.0 if self._expired(token, now) else None
        told = {key: said.get(key) for key in ("sub", "uid", "groups", "iss", "aud")}
        wanted = {
            "sub": user.spec.username,
            "uid": user.uid,
            "groups": user.spec.groups,
            "iss": self.settings.issuer,
            "aud": audience,
        }
        return float(said["exp"]) - now if told == wanted else None

    @staticmethod
    def _expired(token: bytes, now: float) -> bool:
        try:
            return _expiry(token) < now
        except (jwt.PyJWTError, KeyError):
            return False

    def _active(self, user: FacilityUser, now: float) -> bool:
        """Return whether anybody needs the user's tokens: a pod, or one about to start."""
        if now - user.wanted < WANTED_S:
            return True
        label = {USER_LABEL: user.name}
        return any(self.cluster.has_pods(n, label) for n in self.settings.user_namespaces)


def _expiry(token: bytes) -> int:
    """Return when a token expires, its signature not looked at."""
    return int(jwt.decode(token, options={"verify_signature": False})["exp"])


def news(documents: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the published keys and revocations; raises `KeyError` where there are none yet."""
    return documents[KEYS_DOCUMENT], documents[REVOCATIONS_DOCUMENT]


def as_patch(status: FacilityUserStatus) -> dict[str, Any]:
    """Return a status as the resource holds it."""
    found: dict[str, Any] = json.loads(status.model_dump_json(by_alias=True))
    return found
