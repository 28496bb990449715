"""Authentication of the API's clients: users, the operator, and transformers."""

import hmac
from typing import Any

import jwt
from coffea_shoppe_contract.claims import SERVICEX_ADMIN, SERVICEX_REFRESH, token_claims
from coffea_shoppe_identity import Identity, RefusedError, Verifier, bearer

from coffea_shoppe_servicex.backend import Backend
from coffea_shoppe_servicex.models import Owner
from coffea_shoppe_servicex.settings import Auth

ALGORITHM = "HS256"
TRANSFORMER_AUDIENCE = "servicex-transformer"
"""Audience of the keys of dedicated transformers."""
LOCAL_USER = Owner("user", "user")
"""The only user when authentication is disabled."""


class UserAuthenticator:
    """Verifies users' tokens, and issues access tokens for refresh tokens.

    The operator signs access tokens for this service, valid for minutes, and refresh tokens,
    valid for hours.  The stock client exchanges its refresh token for an access token that
    this service signs, each time the last one expires.
    """

    def __init__(self, settings: Auth, verifier: Verifier | None) -> None:
        self.settings, self.verifier = settings, verifier

    def _session_key(self) -> bytes:
        return self.settings.session_key.read_text().strip().encode()

    @property
    def _issuer(self) -> str:
        return f"{self.settings.issuer}/servicex"

    def identify(self, header: str) -> Owner:
        """Return the user of an Authorization header; raises `RefusedError`."""
        if self.verifier is None:
            return LOCAL_USER
        token = bearer(header)
        try:
            algorithm = jwt.get_unverified_header(token).get("alg")
        except jwt.PyJWTError as error:
            raise RefusedError(f"the bearer token is not a JWT ({error})") from error
        if algorithm == ALGORITHM:
            user = self._verify_own_token(token, self.verifier)
        else:
            user = self.verifier.verify(token)
        return Owner(user.user, user.uid)

    def require_operator(self, header: str) -> None:
        """Raise `RefusedError` unless the Authorization header is the operator's."""
        if self.verifier is None:
            raise RefusedError("authentication is disabled: users cannot be administered")
        self.verifier.verify(bearer(header), audience=SERVICEX_ADMIN)

    def _verify_own_token(self, token: str, verifier: Verifier) -> Identity:
        # The verifier checks the claims, so that both kinds of token have the same rules.
        unchecked = dict.fromkeys(("exp", "iat", "aud", "iss", "sub"), False)
        try:
            claims = jwt.decode(
                token,
                self._session_key(),
                algorithms=[ALGORITHM],
                options={f"verify_{name}": on for name, on in unchecked.items()},  # type: ignore[arg-type]
            )
        except jwt.PyJWTError as error:
            raise RefusedError(f"this service did not sign the access token ({error})") from error
        return verifier.check_claims(claims, issuer=self._issuer)

    def refresh(self, header: str, now: float) -> str:
        """Return an access token for the refresh token of a header; raises `RefusedError`."""
        if self.verifier is None:
            claims = self._claims(LOCAL_USER, (), now)
            return jwt.encode(claims, b"authentication is disabled: no secret", ALGORITHM)
        user = self.verifier.verify(bearer(header), audience=SERVICEX_REFRESH)
        claims = self._claims(Owner(user.user, user.uid), user.groups, now)
        return jwt.encode(claims, self._session_key(), ALGORITHM)

    def _claims(self, owner: Owner, groups: tuple[str, ...], now: float) -> dict[str, Any]:
        return token_claims(
            issuer=self._issuer,
            audience="servicex",
            user=owner.user,
            uid=owner.uid,
            groups=groups,
            now=now,
        )


class TransformerAuthenticator:
    """Verifies and issues the keys of transformers.

    Shared transformers have one common key.  Dedicated ones have a signed key per request,
    which is valid while the request runs; nothing needs to be stored.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def _session_key(self) -> str:
        return self.backend.context.settings.auth.session_key.read_text().strip()

    def issue(self, request_id: str) -> str:
        """Return a key for the dedicated transformers of a request."""
        claims = {"aud": TRANSFORMER_AUDIENCE, "sub": request_id}
        return jwt.encode(claims, self._session_key(), ALGORITHM)

    def identify(self, header: str) -> str:
        """Return the request of a dedicated transformer, or '' for a shared one.

        Raises `RefusedError`.
        """
        key = bearer(header)
        pool_key = self.backend.context.settings.pool_key.read_text().strip()
        if hmac.compare_digest(key.encode(), pool_key.encode()):
            return ""
        try:
            claims = jwt.decode(
                key,
                self._session_key(),
                algorithms=[ALGORITHM],
                audience=TRANSFORMER_AUDIENCE,
                options={"require": ["aud", "sub"]},
            )
        except (OSError, jwt.PyJWTError) as error:
            raise RefusedError("the bearer token is not a transformer's key") from error
        request_id = str(claims["sub"])
        if not self.backend.requests.is_running(request_id):
            raise RefusedError("the request of this transformer has ended")
        return request_id
