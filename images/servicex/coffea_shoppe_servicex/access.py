"""Who sends a request: a user, by the facility's tokens or this service's own; a transformer."""

import hmac
from typing import Any

import jwt
from coffea_shoppe_contract import identity
from coffea_shoppe_identity import Identity, RefusedError, Verifier, bearer

from coffea_shoppe_servicex.delivery import Delivery, Owner
from coffea_shoppe_servicex.settings import Auth

ALGORITHM = "HS256"
OWN_TRANSFORMER = "servicex-transformer"
"""Audience of the key of a request's own transformers."""
EVERYBODY = Owner("user", "user")
"""Who everybody is where login is switched off."""


class Users:
    """The users' tokens.

    The facility's operator signs tokens of minutes for this service, and one of hours
    that is good for nothing but an access token of this service's own, which the stock
    client asks for whenever its last one ends.
    """

    def __init__(self, settings: Auth, verifier: Verifier | None) -> None:
        self.settings, self.verifier = settings, verifier

    def _key(self) -> bytes:
        return self.settings.session_key.read_text().strip().encode()

    @property
    def _issuer(self) -> str:
        return f"{self.settings.issuer}/servicex"

    def identify(self, header: str) -> Owner:
        """Return who sends a request; raises `RefusedError`."""
        if self.verifier is None:
            return EVERYBODY
        token = bearer(header)
        try:
            kind = jwt.get_unverified_header(token).get("alg")
        except jwt.PyJWTError as error:
            raise RefusedError(f"this is no token ({error})") from error
        own = kind == ALGORITHM
        found = self._own(token, self.verifier) if own else self.verifier.verify(token)
        return Owner(found.user, found.uid)

    def administer(self, header: str) -> None:
        """Admit the facility's operator, and nobody else; raises `RefusedError`."""
        if self.verifier is None:
            raise RefusedError("login is switched off: nobody administers users")
        self.verifier.verify(bearer(header), audience=identity.SERVICEX_ADMIN)

    def _own(self, token: str, verifier: Verifier) -> Identity:
        checks = dict.fromkeys(("exp", "iat", "aud", "iss", "sub"), False)
        try:
            said = jwt.decode(
                token,
                self._key(),
                algorithms=[ALGORITHM],
                options={f"verify_{name}": on for name, on in checks.items()},  # type: ignore[arg-type]
            )
        except jwt.PyJWTError as error:
            raise RefusedError(f"this is no token of this service ({error})") from error
        return verifier.judge(said, issuer=self._issuer)

    def refresh(self, header: str, now: float) -> str:
        """Return an access token for a refresh token; raises `RefusedError`."""
        if self.verifier is None:
            said = self._claims(EVERYBODY, (), now)
            return jwt.encode(said, b"login is switched off: no secret here", algorithm=ALGORITHM)
        found = self.verifier.verify(bearer(header), audience=identity.SERVICEX_REFRESH)
        said = self._claims(Owner(found.user, found.uid), found.groups, now)
        return jwt.encode(said, self._key(), algorithm=ALGORITHM)

    def _claims(self, owner: Owner, groups: tuple[str, ...], now: float) -> dict[str, Any]:
        return identity.claims(
            issuer=self._issuer,
            audience="servicex",
            user=owner.user,
            uid=owner.uid,
            groups=groups,
            now=now,
        )


class Transformers:
    """The keys of transformers: one of the shared ones, and one for each request's own.

    A request's key is good for as long as the request runs; it is signed, so that any
    number of its pods may have one, and none needs to be remembered.
    """

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery

    def _signer(self) -> str:
        return self.delivery.settings.auth.session_key.read_text().strip()

    def issue(self, request: str) -> str:
        """Return a key for a request's own transformers."""
        said = {"aud": OWN_TRANSFORMER, "sub": request}
        return jwt.encode(said, self._signer(), algorithm=ALGORITHM)

    def identify(self, header: str) -> str:
        """Return the request that a transformer is for, '' for a shared one.

        Raises `RefusedError`.
        """
        key = bearer(header)
        pool = self.delivery.settings.pool_key.read_text().strip()
        if hmac.compare_digest(key.encode(), pool.encode()):
            return ""
        try:
            said = jwt.decode(
                key,
                self._signer(),
                algorithms=[ALGORITHM],
                audience=OWN_TRANSFORMER,
                options={"require": ["aud", "sub"]},
            )
        except (OSError, jwt.PyJWTError) as error:
            raise RefusedError("this is no key of a transformer") from error
        if not self.delivery.runs(said["sub"]):
            raise RefusedError("the request that this key is for has ended")
        return str(said["sub"])
