"""Verification of real signatures, and refusal without fresh verification data."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest
from coffea_shoppe_contract.api import KEYS_PATH, REVOCATIONS_PATH
from coffea_shoppe_contract.claims import MAX_AGE_S, token_claims
from coffea_shoppe_identity import Published, RefusedError, VerificationData, Verifier, bearer
from cryptography.hazmat.primitives.asymmetric import ec
from http_server import serving

KEY, OTHER = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))


def jwk(key: Any, kid: str) -> dict[str, Any]:
    return {**json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key())), "kid": kid}


def token(key: Any = KEY, kid: str = "k1", now: float | None = None, **changes: Any) -> str:
    said = token_claims(
        issuer="here",
        audience="servicex",
        user="ann",
        uid="u1",
        groups=(),
        now=time.time() if now is None else now,
    )
    return jwt.encode({**said, **changes}, key, algorithm="ES256", headers={"kid": kid})


@pytest.fixture
def documents() -> dict[str, Any]:
    return {
        KEYS_PATH: {"keys": [jwk(KEY, "k1")]},
        REVOCATIONS_PATH: {"revoked": {}},
    }


@pytest.fixture
def facility(documents: dict[str, Any]) -> Iterator[str]:
    """An HTTP server that publishes the documents."""

    with serving(lambda request: (200, documents[request.path])) as url:
        yield url


@pytest.fixture
def verifier(facility: str) -> Verifier:
    found = Verifier(Published(facility), issuer="here", audience="servicex")
    assert found.refresh()
    return found


def test_a_good_token_is_accepted(verifier: Verifier) -> None:
    assert verifier.verify(token()).user == "ann"


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (lambda: token(OTHER), "not a token of the facility"),
        (lambda: token(kid="k2"), "unknown key"),
        (lambda: token(aud="mlflow"), "not for 'servicex'"),
        (lambda: token(now=time.time() - 3600), "expired"),
        (lambda: jwt.encode({"sub": "ann"}, "", algorithm="none"), "unknown key"),
        (lambda: "rubbish", "not a token of the facility"),
    ],
)
def test_any_other_is_refused(verifier: Verifier, made: Callable[[], str], told: str) -> None:
    with pytest.raises(RefusedError, match=told):
        verifier.verify(made())


def test_a_public_key_taken_for_a_shared_secret_is_refused(verifier: Verifier) -> None:
    forged = jwt.encode({"sub": "ann"}, "x" * 64, algorithm="HS256", headers={"kid": "k1"})
    with pytest.raises(RefusedError, match="not a token of the facility"):
        verifier.verify(forged)


def test_a_revoked_user_is_refused_with_the_next_news(
    verifier: Verifier, documents: dict[str, Any]
) -> None:
    held = token()
    assert verifier.verify(held)
    documents[REVOCATIONS_PATH]["revoked"]["u1"] = time.time()
    assert verifier.refresh()
    with pytest.raises(RefusedError, match="revoked"):
        verifier.verify(held)


def test_without_news_for_a_minute_everybody_is_refused() -> None:
    now = [1000.0]
    responses = iter([VerificationData({"k1": jwt.PyJWK(jwk(KEY, "k1"))}, {})])
    verifier = Verifier(
        lambda: next(responses), issuer="here", audience="servicex", clock=lambda: now[0]
    )
    with pytest.raises(RefusedError, match="keys are unavailable"):
        verifier.verify(token(now=1000))
    assert verifier.refresh()
    assert verifier.verify(token(now=1000)).user == "ann"
    now[0] += MAX_AGE_S + 1
    assert not verifier.refresh()
    with pytest.raises(RefusedError, match="StopIteration"):
        verifier.verify(token(now=1000))


def test_invalid_documents_are_refused() -> None:
    with pytest.raises(ValueError, match="are invalid"):
        VerificationData.parse({"keys": [{"kty": "EC"}]}, {"revoked": {}})


@pytest.mark.parametrize("header", ["Bearer abc", "bearer abc"])
def test_a_token_is_found_in_its_header(header: str) -> None:
    assert bearer(header) == "abc"


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic abc", "abc"])
def test_another_header_is_refused_with_the_remedy(header: str) -> None:
    with pytest.raises(RefusedError, match="as Authorization: Bearer"):
        bearer(header)
