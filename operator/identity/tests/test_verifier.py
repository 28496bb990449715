"""Verification of real signatures, and what becomes of it without news."""

import json
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import jwt
import pytest
from coffea_shoppe_contract import identity
from coffea_shoppe_identity import News, Published, RefusedError, Verifier, bearer
from cryptography.hazmat.primitives.asymmetric import ec

KEY, OTHER = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))


def jwk(key: Any, kid: str) -> dict[str, Any]:
    return {**json.loads(jwt.algorithms.ECAlgorithm.to_jwk(key.public_key())), "kid": kid}


def token(key: Any = KEY, kid: str = "k1", now: float | None = None, **changes: Any) -> str:
    said = identity.claims(
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
        identity.KEYS_PATH: {"keys": [jwk(KEY, "k1")]},
        identity.REVOCATIONS_PATH: {"revoked": {}},
    }


@pytest.fixture
def facility(documents: dict[str, Any]) -> Iterator[str]:
    """An HTTP server that publishes the documents."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(documents[self.path]).encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


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
        (lambda: token(OTHER), "no token of the facility"),
        (lambda: token(kid="k2"), "unknown key"),
        (lambda: token(aud="mlflow"), "not for 'servicex'"),
        (lambda: token(now=time.time() - 3600), "expired"),
        (lambda: jwt.encode({"sub": "ann"}, "", algorithm="none"), "unknown key"),
        (lambda: "rubbish", "no token of the facility"),
    ],
)
def test_any_other_is_refused(verifier: Verifier, made: Callable[[], str], told: str) -> None:
    with pytest.raises(RefusedError, match=told):
        verifier.verify(made())


def test_a_public_key_taken_for_a_shared_secret_is_refused(verifier: Verifier) -> None:
    forged = jwt.encode({"sub": "ann"}, "x" * 64, algorithm="HS256", headers={"kid": "k1"})
    with pytest.raises(RefusedError, match="no token of the facility"):
        verifier.verify(forged)


def test_a_revoked_user_is_refused_with_the_next_news(
    verifier: Verifier, documents: dict[str, Any]
) -> None:
    held = token()
    assert verifier.verify(held)
    documents[identity.REVOCATIONS_PATH]["revoked"]["u1"] = time.time()
    assert verifier.refresh()
    with pytest.raises(RefusedError, match="revoked"):
        verifier.verify(held)


def test_without_news_for_a_minute_everybody_is_refused() -> None:
    now = [1000.0]
    answers = iter([News({"k1": jwt.PyJWK(jwk(KEY, "k1"))}, {})])
    verifier = Verifier(
        lambda: next(answers), issuer="here", audience="servicex", clock=lambda: now[0]
    )
    with pytest.raises(RefusedError, match="keys cannot be had"):
        verifier.verify(token(now=1000))
    assert verifier.refresh()
    assert verifier.verify(token(now=1000)).user == "ann"
    now[0] += identity.STALE_S + 1
    assert not verifier.refresh()
    with pytest.raises(RefusedError, match="StopIteration"):
        verifier.verify(token(now=1000))


def test_documents_of_another_form_are_no_news() -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        News.parse({"keys": [{"kty": "EC"}]}, {"revoked": {}})


@pytest.mark.parametrize("header", ["Bearer abc", "bearer abc"])
def test_a_token_is_found_in_its_header(header: str) -> None:
    assert bearer(header) == "abc"


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic abc", "abc"])
def test_another_header_is_refused_with_the_remedy(header: str) -> None:
    with pytest.raises(RefusedError, match="as Authorization: Bearer"):
        bearer(header)
