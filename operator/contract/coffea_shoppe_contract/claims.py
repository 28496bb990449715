"""Claims of the facility's tokens: content, lifetimes and verification.

The operator signs tokens (JSON Web Tokens, RFC 7519); services verify them offline with
the facility's published keys and its revocation list.  `coffea_shoppe_identity` checks
the signature, which needs a cryptographic library.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SIGNING_ALGORITHM = "ES256"
SERVICEX_REFRESH = "servicex-refresh"
"""Audience of the tokens that the stock ServiceX client exchanges for access tokens.

No service accepts them for anything else, so they may be valid for longer.
"""
AUDIENCES = ("api", "mlflow", "s3", "servicex", SERVICEX_REFRESH, "triton")
"""Audiences of users' tokens; each service accepts only its own."""
MLFLOW_ADMIN = "mlflow-admin"
"""Audience of the operator's own tokens for MLflow; users get none."""
TRITON_ADMIN = "triton-admin"
"""Audience of the operator's own tokens for Triton, to load and unload models."""
SERVICEX_ADMIN = "servicex-admin"
"""Audience of the operator's own tokens for ServiceX, to manage its users."""

TOKEN_LIFETIME_S = 900
"""Default lifetime of a token, and the longest that a facility may set."""
MIN_TOKEN_LIFETIME_S = 300
"""Shortest lifetime that a facility may set: files in pods lag by minutes."""
REFRESH_TOKEN_LIFETIME_S = 24 * 3600
"""Lifetime of a token for `SERVICEX_REFRESH`; it can be revoked like any other."""
MAX_TOKEN_LIFETIME_S = max(TOKEN_LIFETIME_S, REFRESH_TOKEN_LIFETIME_S)
"""Longest lifetime of any token: keys and revocations are published at least that long."""
CLOCK_LEEWAY_S = 10
"""Largest accepted difference between the clocks of two pods."""
POLL_INTERVAL_S = 10
"""Interval at which services fetch keys and revocations."""
MAX_AGE_S = 60
"""A service whose keys and revocations are older refuses every token."""


class RefusedError(Exception):
    """A token is refused; the text gives the reason and may be shown to the user."""


@dataclass(frozen=True)
class Identity:
    """The user of a verified token."""

    user: str
    """The hub's name of the user."""
    uid: str
    """uid of the user's resource; a later user of the same name has a different one."""
    groups: tuple[str, ...]
    expires: float
    """Unix time."""


def token_lifetime_s(audience: str, default: int = TOKEN_LIFETIME_S) -> int:
    """Return the lifetime of a token for an audience, in seconds."""
    return REFRESH_TOKEN_LIFETIME_S if audience == SERVICEX_REFRESH else default


def token_claims(
    *,
    issuer: str,
    audience: str,
    user: str,
    uid: str,
    groups: tuple[str, ...],
    now: float,
    lifetime: int = TOKEN_LIFETIME_S,
) -> dict[str, Any]:
    """Return the claims of a token; `lifetime` does not apply to refresh tokens."""
    return {
        "iss": issuer,
        "aud": audience,
        "sub": user,
        "uid": uid,
        "groups": list(groups),
        "iat": int(now),
        "exp": int(now) + token_lifetime_s(audience, lifetime),
    }


def verify_claims(
    claims: Mapping[str, Any],
    *,
    issuer: str,
    audience: str,
    now: float,
    revoked: Mapping[str, float],
) -> Identity:
    """Return the user of a token whose signature is valid.

    `revoked` maps a user's uid to the Unix time up to which issued tokens are void.
    Raises `RefusedError`.
    """
    try:
        identity = Identity(
            user=str(claims["sub"]),
            uid=str(claims["uid"]),
            groups=tuple(str(group) for group in claims["groups"]),
            expires=float(claims["exp"]),
        )
        issued = float(claims["iat"])
    except (KeyError, TypeError, ValueError) as error:
        raise RefusedError(f"the token lacks {error}") from error
    if claims.get("iss") != issuer:
        raise RefusedError(f"the token's issuer is {claims.get('iss')!r}, not this facility")
    if claims.get("aud") != audience:
        raise RefusedError(f"the token is for {claims.get('aud')!r}, not for {audience!r}")
    if issued > now + CLOCK_LEEWAY_S:
        raise RefusedError("the token was issued in the future: the clocks differ")
    if now > identity.expires + CLOCK_LEEWAY_S:
        raise RefusedError("the token has expired; read it again from its file")
    if identity.expires - issued > token_lifetime_s(audience):
        raise RefusedError(
            "the token lives longer than this facility allows; request a shorter-lived one"
        )
    if issued <= revoked.get(identity.uid, -1.0):
        raise RefusedError("the user's access was revoked")
    return identity
