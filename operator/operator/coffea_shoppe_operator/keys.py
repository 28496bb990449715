"""The keys that sign tokens, and their succession: pure functions of the time."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt
from coffea_shoppe_contract import identity
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

ROTATE_S = 24 * 3600
"""A new key is made once a day."""
PUBLISH_S = 2 * identity.STALE_S
"""A key is published for so long before it signs: every service has seen it by then."""


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
        """Return the key's name, made from its public half."""
        point = self.private.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        return hashlib.sha256(point).hexdigest()[:16]

    def public(self) -> dict[str, Any]:
        """Return the public half as a JSON Web Key."""
        key = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self.private.public_key()))
        return {**key, "kid": self.kid, "use": "sig", "alg": identity.ALGORITHM}

    def sign(self, claims: Mapping[str, Any]) -> str:
        """Return a token that says the claims."""
        return jwt.encode(
            dict(claims), self.private, algorithm=identity.ALGORITHM, headers={"kid": self.kid}
        )


@dataclass(frozen=True)
class KeyRing:
    """The keys at hand, the oldest first."""

    keys: tuple[Key, ...] = ()

    @classmethod
    def load(cls, data: Mapping[str, bytes]) -> "KeyRing":
        """Return the keys of a Secret: `CREATED.pem` → PKCS#8."""
        found = []
        for name, text in data.items():
            private = serialization.load_pem_private_key(text, password=None)
            if not isinstance(private, ec.EllipticCurvePrivateKey):
                raise ValueError(f"{name} is not a key on an elliptic curve")
            found.append(Key(int(name.removesuffix(".pem")), private))
        return cls(tuple(sorted(found, key=lambda key: key.created)))

    def dump(self) -> dict[str, bytes]:
        """Return the keys as a Secret holds them."""
        return {
            f"{key.created}.pem": key.private.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            for key in self.keys
        }

    def renewed(self, now: float) -> "KeyRing":
        """Return the keys that there should be now.

        A new one is added once a day; an old one goes when no token that it signed
        can be alive any more.
        """
        keys = self.keys
        if not keys or now - keys[-1].created >= ROTATE_S:
            keys = (*keys, Key.new(now))
        over = PUBLISH_S + identity.LONGEST_S + 2 * identity.LEEWAY_S
        kept = [
            key
            for key, successor in zip(keys, (*keys[1:], None), strict=True)
            if successor is None or now <= successor.created + over
        ]
        return KeyRing(tuple(kept))

    def signing(self, now: float) -> Key:
        """Return the key that signs now: the newest that all services know."""
        known = [key for key in self.keys if now - key.created >= PUBLISH_S]
        return known[-1] if known else self.keys[0]

    def published(self) -> dict[str, Any]:
        """Return the public halves as a JSON Web Key Set."""
        return {"keys": [key.public() for key in self.keys]}
