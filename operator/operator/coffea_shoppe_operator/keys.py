"""Signing keys and their rotation: pure functions of the time."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from coffea_shoppe_contract.claims import (
    CLOCK_LEEWAY_S,
    MAX_AGE_S,
    MAX_TOKEN_LIFETIME_S,
    SIGNING_ALGORITHM,
)
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

ROTATE_S = 24 * 3600
"""Interval of key rotation."""
PUBLISH_S = 2 * MAX_AGE_S
"""Time from publishing a key to signing with it: every service has fetched it by then."""


@dataclass(frozen=True)
class Key:
    """One key pair."""

    created: int
    """Unix time."""
    private: ec.EllipticCurvePrivateKey

    @classmethod
    def new(cls, now: float) -> "Key":
        """Make a key."""
        return cls(int(now), ec.generate_private_key(ec.SECP256R1()))

    @property
    def kid(self) -> str:
        """Return the key's identifier, a digest of its public key."""
        point = self.private.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        return hashlib.sha256(point).hexdigest()[:16]

    def public(self) -> dict[str, Any]:
        """Return the public key as a JSON Web Key."""
        key = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self.private.public_key()))
        return {**key, "kid": self.kid, "use": "sig", "alg": SIGNING_ALGORITHM}

    def sign(self, claims: Mapping[str, Any]) -> str:
        """Return a signed token with these claims."""
        return jwt.encode(
            dict(claims), self.private, algorithm=SIGNING_ALGORITHM, headers={"kid": self.kid}
        )


@dataclass(frozen=True)
class KeyRing:
    """The current keys, the oldest first."""

    keys: tuple[Key, ...] = ()

    @classmethod
    def load(cls, files: Mapping[str, bytes]) -> "KeyRing":
        """Return the keys of a Secret with PKCS#8 files `CREATED.pem`."""
        keys = []
        for name, text in files.items():
            private = serialization.load_pem_private_key(text, password=None)
            if not isinstance(private, ec.EllipticCurvePrivateKey):
                raise ValueError(f"{name} is not an elliptic-curve key")
            keys.append(Key(int(name.removesuffix(".pem")), private))
        return cls(tuple(sorted(keys, key=lambda key: key.created)))

    def dump(self) -> dict[str, bytes]:
        """Return the keys as the files of a Secret."""
        return {
            f"{key.created}.pem": key.private.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            for key in self.keys
        }

    def renewed(self, now: float) -> "KeyRing":
        """Return the keys that should exist now.

        A new key is added once per `ROTATE_S`; an old key is dropped when all tokens that
        it signed have expired.
        """
        keys = self.keys
        if not keys or now - keys[-1].created >= ROTATE_S:
            keys = (*keys, Key.new(now))
        retention = PUBLISH_S + MAX_TOKEN_LIFETIME_S + 2 * CLOCK_LEEWAY_S
        retained = [
            key
            for key, successor in zip(keys, (*keys[1:], None), strict=True)
            if successor is None or now <= successor.created + retention
        ]
        return KeyRing(tuple(retained))

    def signing(self, now: float) -> Key:
        """Return the key that signs now: the newest that all services have fetched."""
        fetched = [key for key in self.keys if now - key.created >= PUBLISH_S]
        return fetched[-1] if fetched else self.keys[0]

    def published(self) -> dict[str, Any]:
        """Return the public keys as a JSON Web Key Set."""
        return {"keys": [key.public() for key in self.keys]}
