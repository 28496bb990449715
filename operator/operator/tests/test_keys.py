from typing import Any

import jwt
import pytest
from coffea_shoppe_contract.claims import MAX_TOKEN_LIFETIME_S, TOKEN_LIFETIME_S
from coffea_shoppe_operator.keys import PUBLISH_S, ROTATE_S, Key, KeyRing

NOW = 2_000_000.0


def test_the_first_key_signs_at_once() -> None:
    ring = KeyRing().renewed(NOW)
    assert ring.signing(NOW) is ring.keys[0]
    assert ring.renewed(NOW + 60) == ring


def test_keys_survive_their_secret() -> None:
    ring = KeyRing((Key.new(NOW), Key.new(NOW + 10)))
    again = KeyRing.load(ring.dump())
    assert again.published() == ring.published()


def test_what_is_no_key_is_refused() -> None:
    with pytest.raises(ValueError, match="PEM"):
        KeyRing.load({"1.pem": b"rubbish"})


def test_no_token_fails_while_keys_are_changed() -> None:
    """Over five days, a token is good all its life for a service with minute-old keys."""
    ring = KeyRing()
    published: dict[str, Any] = {}
    alive: list[tuple[float, str]] = []
    changes = 0
    for minute in range(5 * 24 * 60):
        now = NOW + 60 * minute
        renewed = ring.renewed(now)
        changes += renewed != ring
        ring = renewed
        if minute:
            used = {kid for until, kid in alive if until > now}
            assert used <= published.keys(), "a service does not know the key of a live token"
        alive = [(until, kid) for until, kid in alive if until > now]
        if minute % 7 == 0:
            for lifetime in (TOKEN_LIFETIME_S, MAX_TOKEN_LIFETIME_S):
                token = ring.signing(now).sign({"exp": now + lifetime})
                alive.append((now + lifetime, jwt.get_unverified_header(token)["kid"]))
        published = {key["kid"]: key for key in ring.published()["keys"]}
    assert changes >= 5, "keys were made and dropped"
    assert len(ring.keys) <= 3
    assert now - ring.keys[-1].created <= ROTATE_S + PUBLISH_S
