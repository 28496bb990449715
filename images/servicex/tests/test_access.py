"""Signatures of S3 clients, the responses of the S3 gateway, and the tokens of the API."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import boto3
import httpx
import jwt
import pytest
from botocore.auth import HmacV1QueryAuth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from coffea_shoppe_contract.claims import (
    SERVICEX_ADMIN,
    SERVICEX_REFRESH,
    SIGNING_ALGORITHM,
    token_claims,
)
from coffea_shoppe_identity import RefusedError, VerificationData, Verifier
from coffea_shoppe_servicex import access, api, s3
from coffea_shoppe_servicex.backend import Backend
from coffea_shoppe_servicex.models import Result, Submission
from coffea_shoppe_servicex.objects import S3Store
from coffea_shoppe_servicex.settings import Auth
from coffea_shoppe_servicex.signatures import SignatureError, SignedRequest
from cryptography.hazmat.primitives.asymmetric import ec
from servicex_helpers import ANN, Clock, changed, look_up, object_path, take
from starlette.testclient import TestClient

HOST = "store:7000"
PATH = "/bucket/some%20name.parquet"
YEAR = 365 * 86400
SECRET = "secret"  # noqa: S105


def signed(url: str, method: str = "GET", **headers: str) -> SignedRequest:
    parts = urlsplit(url)
    query = parse_qsl(parts.query, keep_blank_values=True)
    return SignedRequest(method, parts.path, query, {"host": HOST, **headers})


def by_version_2(secret: str = SECRET, lifetime: int = YEAR, method: str = "GET") -> str:
    request = AWSRequest(method=method, url=f"http://{HOST}{PATH}")
    request.auth_path = PATH
    HmacV1QueryAuth(Credentials("key", secret), expires=lifetime).add_auth(request)
    return str(request.prepare().url)


def by_version_4(secret: str = SECRET, lifetime: int = YEAR, method: str = "GET") -> str:
    request = AWSRequest(method=method, url=f"http://{HOST}{PATH}")
    auth = S3SigV4QueryAuth(Credentials("key", secret), "s3", "eu-central-1", expires=lifetime)
    auth.add_auth(request)
    return str(request.prepare().url)


@pytest.mark.parametrize("sign", [by_version_2, by_version_4])
def test_an_address_is_good_for_a_year_for_what_was_signed(sign: Callable[..., str]) -> None:
    now = time.time()
    url = sign()
    good = signed(url)
    assert good.access_key == "key"
    good.verify("secret", now)
    good.verify("secret", now + YEAR - 60)
    refused = [
        (good, "other", now),
        (good, "secret", now + YEAR + 60),
        (signed(sign(lifetime=2 * YEAR)), "secret", now),
        (signed(url.replace("some", "same")), "secret", now),
        (signed(url, method="PUT"), "secret", now),
        (signed(url + "&acl"), "secret", now),
        (signed(url.replace("ignature=", "ignature=A")), "secret", now),
    ]
    for request, secret, moment in refused:
        with pytest.raises(SignatureError):
            request.verify(secret, moment)


def test_what_is_not_signed_is_nobody_s() -> None:
    with pytest.raises(SignatureError, match="not signed"):
        _ = signed(f"http://{HOST}{PATH}").access_key


@pytest.fixture
def gateway(backend: Backend, clock: Clock, tmp_path: Path) -> Any:
    """An S3 client of the gateway, and one finished request."""
    clock.now = time.time()
    selection = '[{"treename": "E", "expressions": ["x"]}]'
    asked = {"codegen": "uproot-raw", "selection": selection, "file-list": ["a.root"]}
    request = backend.requests.submit(ANN, Submission.model_validate(asked))
    assert look_up(backend)
    lease = backend.queue.lease("w", memory=4000)
    assert lease
    revoked: dict[str, str] = {}
    application = s3.application(s3.Gateway(backend, lambda uid, _: revoked.get(uid, "")))
    with TestClient(application, base_url="http://127.0.0.1:7000") as client:
        url = backend.queue.upload_url(lease.file, lease.attempt)
        assert client.put(url, content=b"0123456789").status_code == 200
        backend.queue.complete(lease.file, 1, Result(events=1, read=1, seconds=1))
        yield client, backend.requests.get(ANN, request.id), revoked


def presigned(request: Any, method: str = "get_object", **more: str) -> str:
    client = boto3.client(
        "s3",
        endpoint_url="http://127.0.0.1:7000",
        aws_access_key_id=request.access_key,
        aws_secret_access_key=request.secret_key,
        region_name="us-east-1",
    )
    named = {"Bucket": request.id, "Key": "000000-a.parquet", **more}
    if method == "list_objects_v2":
        del named["Key"]
    return str(client.generate_presigned_url(method, Params=named))


def test_the_gateway_serves_objects_of_a_request_to_its_keys_only(gateway: Any) -> None:
    client, request, revoked = gateway
    assert client.get(presigned(request)).content == b"0123456789"
    part = client.get(presigned(request), headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.content) == (206, b"234")
    listed = client.get(presigned(request, "list_objects_v2"))
    assert "<Key>000000-a.parquet</Key>" in listed.text
    assert "<Size>10</Size>" in listed.text
    refused = {
        "unsigned": client.get(f"/{request.id}/000000-a.parquet"),
        "another request": client.get(presigned(request, Bucket="other")),
        "tampered": client.get(presigned(request).replace("Signature=", "Signature=A")),
    }
    assert {why: one.status_code for why, one in refused.items()} == dict.fromkeys(refused, 403)
    assert client.get(presigned(request, Key="absent")).status_code == 404
    assert client.delete(presigned(request, "delete_object")).status_code == 405
    revoked[ANN.uid] = "the user's access was revoked"
    assert client.get(presigned(request)).status_code == 403


NAMES = ["../000000-a.parquet", "..%2F..%2Fa", "%252e%252e%252Fa", "..%25252Fa", "a/b", "000000-a"]
NAMES += ["x%3Facl", "x%253Facl", "?list-type=2", "%3Flist-type=2", "%253Flist-type=2", ".", ".."]


@pytest.mark.parametrize("name", NAMES)
def test_the_store_is_asked_for_results_only(
    gateway: Any, monkeypatch: pytest.MonkeyPatch, backend: Backend, name: str
) -> None:
    client, request, _ = gateway
    names: list[str] = []

    def presigned_url(method: str, prefix: object, name: str, lifetime_s: int) -> str:
        names.append(name)
        return "http://127.0.0.1:9/"

    # As with a store of objects, which is asked by presigned URLs.
    monkeypatch.setattr(backend.context.store, "presigned_url", presigned_url, raising=False)
    monkeypatch.setattr(s3, "FolderStore", S3Store)
    assert client.get(presigned(request, Key=name)).status_code in (403, 404)
    assert names == []
    assert client.get(presigned(request)).status_code == 503, "the store does not respond"
    assert names == ["000000-a.parquet"]


@pytest.fixture
def upload(gateway: Any, backend: Backend) -> tuple[Any, str, Any, Path]:
    """A second request of the client with a leased file: URL of its upload, request, and path."""
    client, first, _ = gateway
    again = {"codegen": "uproot-raw", "selection": first.selection, "file-list": ["b.root"]}
    request = backend.requests.submit(ANN, Submission.model_validate(again))
    assert look_up(backend)
    lease = take(backend)
    url = backend.queue.upload_url(lease.file, lease.attempt)
    return client, url, request, object_path(backend, lease)


def test_an_upload_has_the_name_of_a_leased_attempt(upload: Any) -> None:
    client, url, request, path = upload
    names = ["..%2Fa", "%2e%2e%2fa", "a%3Fb", ".hidden", "a%00"]
    # The owner has the key, and so could fill the folder.
    for name in (*names, "more.parquet", "000000-b.2.parquet", "000000-a.parquet"):
        refused = client.put(presigned(request, "put_object", Key=name), content=b"x")
        assert refused.status_code == 403, name
    assert list(path.parent.iterdir()) == []
    assert client.put(url, content=b"x").status_code == 200
    assert path.read_bytes() == b"x"


def test_a_result_cannot_be_replaced(gateway: Any) -> None:
    client, request, _ = gateway
    assert client.put(presigned(request, "put_object"), content=b"x").status_code == 403
    assert client.get(presigned(request)).content == b"0123456789"


def test_an_upload_is_limited_in_size(upload: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client, url, _, path = upload
    monkeypatch.setattr(s3, "LARGEST_UPLOAD", 10)
    for content in (b"x" * 11, iter([b"x" * 10, b"x"])):
        refused = client.put(url, content=content)
        assert (refused.status_code, "EntityTooLarge" in refused.text) == (400, True)
        assert list(path.parent.iterdir()) == []
    assert client.put(url, content=b"x" * 10).status_code == 200
    assert path.read_bytes() == b"x" * 10


def test_an_object_has_one_upload_at_a_time_of_limited_duration(
    upload: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, url, _, path = upload

    async def story() -> list[int]:
        transport = httpx.ASGITransport(client.app)
        started, go_on = asyncio.Event(), asyncio.Event()

        async def stuck() -> AsyncIterator[bytes]:
            yield b"x"
            started.set()
            await go_on.wait()

        async with httpx.AsyncClient(transport=transport, base_url=str(client.base_url)) as other:
            first = asyncio.create_task(other.put(url, content=stuck()))
            await started.wait()
            second = await other.put(url, content=b"y")
            go_on.set()
            statuses = [(await first).status_code, second.status_code]
            go_on.clear()
            monkeypatch.setattr(s3, "UPLOAD_S", 0.01)
            slow = await other.put(url, content=stuck())
            return [*statuses, slow.status_code]

    assert asyncio.run(story()) == [200, 409, 400]
    assert path.read_bytes() == b"x"
    assert list(path.parent.iterdir()) == [path], "nothing of the slow one remains"


ISSUER = "coffea-shoppe:shoppe:shoppe"


@pytest.fixture
def users(tmp_path: Path) -> Any:
    """The users of a facility with one key, and how it signs tokens."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = jwt.PyJWK.from_dict(
        {**jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": "one"}
    )
    revoked: dict[str, float] = {}
    verifier = Verifier(
        lambda: VerificationData({"one": public}, revoked), issuer=ISSUER, audience="servicex"
    )
    verifier.refresh()
    session = tmp_path / "session-key"
    session.write_text("s" * 48)

    def sign(audience: str, now: float = 0.0, issuer: str = ISSUER) -> str:
        said = token_claims(
            issuer=issuer, audience=audience, user="ann", uid="u", groups=(), now=now or time.time()
        )
        return jwt.encode(said, key, algorithm=SIGNING_ALGORITHM, headers={"kid": "one"})

    auth = Auth(api="http://api", issuer=ISSUER, session_key=session)
    return access.UserAuthenticator(auth, verifier), sign, revoked


def test_a_refresh_token_gives_access_tokens_and_nothing_else(users: Any) -> None:
    known, sign, revoked = users
    now = time.time()
    refresh = sign(SERVICEX_REFRESH, now - 20 * 3600)
    token = known.refresh(f"Bearer {refresh}", now)
    assert known.identify(f"Bearer {token}").user == "ann"
    assert jwt.decode(token, options={"verify_signature": False})["exp"] > now + 600
    assert known.identify(f"Bearer {sign('servicex')}").uid == "u"
    for bad in (refresh, sign("mlflow"), sign("servicex", now - 2000), token + "x", "", "abc"):
        with pytest.raises(RefusedError):
            known.identify(f"Bearer {bad}")
    for bad in (token, sign("servicex"), sign(SERVICEX_REFRESH, now - 25 * 3600)):
        with pytest.raises(RefusedError):
            known.refresh(f"Bearer {bad}", now)
    forged = jwt.encode(
        token_claims(
            issuer=f"{ISSUER}/servicex",
            audience="servicex",
            user="ann",
            uid="u",
            groups=(),
            now=now,
        ),
        "t" * 48,
        algorithm="HS256",
    )
    with pytest.raises(RefusedError):
        known.identify(f"Bearer {forged}")
    revoked["u"] = now + 1
    with pytest.raises(RefusedError, match="revoked"):
        known.identify(f"Bearer {token}")
    with pytest.raises(RefusedError, match="revoked"):
        known.refresh(f"Bearer {refresh}", now)


def test_users_are_administered_by_the_operator_alone(users: Any) -> None:
    known, sign, _ = users
    known.require_operator(f"Bearer {sign(SERVICEX_ADMIN)}")
    for bad in (sign("servicex"), sign(SERVICEX_REFRESH), sign("mlflow-admin"), "abc"):
        with pytest.raises(RefusedError):
            known.require_operator(f"Bearer {bad}")
    with pytest.raises(RefusedError):
        known.identify(f"Bearer {sign(SERVICEX_ADMIN)}")
    with pytest.raises(RefusedError, match="authentication is disabled"):
        access.UserAuthenticator(Auth(enabled=False), None).require_operator("Bearer x")


def test_the_operator_tells_what_a_user_may_have(users: Any, backend: Backend) -> None:
    known, sign, _ = users
    application = api.application(backend, known, access.TransformerAuthenticator(backend))
    headers = {"Authorization": f"Bearer {sign(SERVICEX_ADMIN)}"}
    where = "/servicex/internal/users/ann%2Fb@example.org"
    with TestClient(application) as client:
        body = {"gigabytes": 2, "share": 3}
        assert client.put(where, json=body, headers=headers).json() == {"user": "ann/b@example.org"}
        bad = client.put(where, json={"share": 0}, headers=headers)
        assert (bad.status_code, "share: " in bad.text) == (400, True)
        own = {"Authorization": f"Bearer {sign('servicex')}"}
        assert client.put(where, json=body, headers=own).status_code == 401
        assert client.delete(where, headers=headers).status_code == 200
        assert client.delete(where, headers=own).status_code == 401


def test_without_login_the_client_gets_a_token_that_it_can_read() -> None:
    everybody = access.UserAuthenticator(Auth(enabled=False), None)
    token = everybody.refresh("", time.time())
    assert jwt.decode(token, options={"verify_signature": False})["exp"] > time.time()
    assert everybody.identify("").user == "user"


def test_transformers_are_known_by_their_keys(backend: Backend, tmp_path: Path) -> None:
    pool, session = tmp_path / "pool-key", tmp_path / "session-key"
    pool.write_text("pool\n")
    session.write_text("s" * 48)
    whole = changed(backend, pool_key=pool, auth=Auth(session_key=session))
    known = access.TransformerAuthenticator(whole)
    assert known.identify("Bearer pool") == ""
    source = "ZGVmIHJ1bl9xdWVyeShmKToKICAgIHJldHVybiBmCg=="
    asked = {"codegen": "python", "selection": source, "file-list": ["a"]}
    request = backend.requests.submit(ANN, Submission.model_validate(asked)).id
    assert look_up(backend)
    key = known.issue(request)
    assert known.identify(f"Bearer {key}") == request
    said = {"aud": access.TRANSFORMER_AUDIENCE, "sub": request}
    forged = jwt.encode(said, "t" * 48, algorithm="HS256")
    other = jwt.encode({**said, "aud": "servicex"}, "s" * 48, algorithm="HS256")
    for header in ("", "pool", "Bearer other", f"Bearer {forged}", f"Bearer {other}"):
        with pytest.raises(RefusedError):
            known.identify(header)
    backend.requests.cancel(ANN, request)
    with pytest.raises(RefusedError, match="has ended"):
        known.identify(f"Bearer {key}")
