"""The login of MLflow: real tokens, MLflow's own stores, and requests of Flask."""

import asyncio
import io
import json
import time
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from coffea_shoppe_contract.claims import MLFLOW_ADMIN, SIGNING_ALGORITHM, token_claims
from coffea_shoppe_contract.names import workspace_name
from coffea_shoppe_identity import Identity, VerificationData, Verifier
from coffea_shoppe_mlflow import auth, server, uploads
from cryptography.hazmat.primitives.asymmetric import ec
from flask import Flask, Response
from mlflow.server import BACKEND_STORE_URI_ENV_VAR, handlers, workspace_helpers
from mlflow.server.auth import store as users
from mlflow.tracking._model_registry import utils as registry_utils
from mlflow.utils.workspace_context import WorkspaceContext
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from werkzeug.datastructures import Authorization

KEY, OTHER_KEY = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
ADMIN = "operator@mlflow.invalid"
REVOKED_UID = "u-eve"
ORDINARY = "/api/2.0/mlflow/experiments/search"
FLASK = Flask(__name__)
NOW = time.time()
"""What the verifier's clock shows: no token and no list grows old here."""


def token(user: str, *, audience: str = "mlflow", key: Any = KEY) -> str:
    claims = token_claims(
        issuer="here", audience=audience, user=user, uid=f"u-{user}", groups=(), now=NOW
    )
    return jwt.encode(claims, key, algorithm=SIGNING_ALGORITHM, headers={"kid": "k1"})


@pytest.fixture(scope="module", autouse=True)
def mlflow_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """MLflow's stores in a folder, and the facility's published key."""
    folder = tmp_path_factory.mktemp("mlflow")
    database = f"sqlite:///{folder}/mlflow.db"
    configuration = folder / "auth.ini"
    configuration.write_text(f"[mlflow]\nadmin_username = {ADMIN}\n")
    public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(KEY.public_key()))
    published = VerificationData.parse(
        {"keys": [{**public, "kid": "k1"}]}, {"revoked": {REVOKED_UID: NOW + 60}}
    )
    verifier = Verifier(lambda: published, issuer="here", audience="mlflow", clock=lambda: NOW)
    verifier.refresh()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_AUTH_CONFIG_PATH", str(configuration))
        patch.setenv("MLFLOW_ENABLE_WORKSPACES", "true")
        patch.setenv(BACKEND_STORE_URI_ENV_VAR, database)
        patch.setenv("MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX", "^mlflow-artifacts:/")
        patch.setattr(workspace_helpers, "_workspace_store", None)
        patch.setattr(handlers, "_model_registry_store", None)
        # A server makes its store the registry of all clients in the process.
        patch.setattr(registry_utils, "_registry_uri", None)
        patch.setenv("MLFLOW_REGISTRY_URI", "")
        # MLflow makes a database in the folder where it runs.
        patch.chdir(folder)
        patch.setattr(auth, "verifier", lambda: verifier)
        auth.settings.cache_clear()
        users.init_db(database)
        yield
    auth.settings.cache_clear()


@pytest.fixture(autouse=True)
def just_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "_known", set())


def authenticate(bearer: str = "", path: str = ORDINARY, **query: str) -> Authorization | Response:
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    with FLASK.test_request_context(path, headers=headers, query_string=query):
        return auth.authenticate()


def user_of(outcome: Authorization | Response) -> str | None:
    assert isinstance(outcome, Authorization), outcome
    return outcome.username


def refused(outcome: Authorization | Response, status: int) -> str:
    assert isinstance(outcome, Response)
    assert outcome.status_code == status
    return outcome.get_data(as_text=True)


def test_the_first_request_of_a_user_makes_the_user_and_the_workspace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert user_of(authenticate(token("ann"))) == "ann"
    workspace = workspace_name("ann")
    assert workspace_helpers._get_workspace_store().get_workspace(workspace).name == workspace
    assert users.get_workspace_permission(workspace, "ann").name == "MANAGE"
    assert not users.get_user("ann").is_admin
    # After a restart of the server, the user comes back.
    monkeypatch.setattr(auth, "_known", set())
    assert user_of(authenticate(token("ann"))) == "ann"


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ("", "Authorization: Bearer"),
        ("no token", "not a token of the facility"),
        (token("ann", key=OTHER_KEY), "not a token of the facility"),
        (token("ann", audience="servicex"), "is for 'servicex'"),
        (token("eve"), "revoked"),
        (token(ADMIN), "is not a user"),
    ],
    ids=[
        "none",
        "no token",
        "another key",
        "another service",
        "revoked",
        "the administrator's name",
    ],
)
def test_other_logins_are_refused_with_the_reason(sent: str, words: str) -> None:
    outcome = authenticate(sent)
    assert words in refused(outcome, 401)
    assert isinstance(outcome, Response)
    assert outcome.headers["WWW-Authenticate"] == "Bearer"


def test_the_operator_is_the_administrator_and_no_user_is() -> None:
    assert user_of(authenticate(token("operator", audience=MLFLOW_ADMIN))) == ADMIN
    assert not users.has_user("operator")


@pytest.mark.parametrize(
    "path",
    [
        "/api/2.0/mlflow/users/create",
        "/ajax-api/2.0/mlflow/users/list",
        "/api/2.0/mlflow/users/update-password",
        "/ajax-api/3.0/mlflow/assistant/chat",
        "/signup",
    ],
)
def test_pages_that_are_not_for_users_are_for_the_operator(path: str) -> None:
    assert "not for users" in refused(authenticate(token("ann"), path), 403)
    assert user_of(authenticate(token("operator", audience=MLFLOW_ADMIN), path)) == ADMIN


@pytest.mark.parametrize(
    "path", [ORDINARY, "/api/2.0/mlflow/users/current", "/api/2.0/mlflow/users/get"]
)
def test_other_pages_are_for_users(path: str) -> None:
    assert user_of(authenticate(token("ann"), path)) == "ann"


def test_a_version_is_read_from_mlflow_alone() -> None:
    authenticate(token("ann"))
    registry = handlers._get_model_registry_store()

    def read(version: str) -> Authorization | Response:
        url = "/model-versions/get-artifact"
        with WorkspaceContext(workspace_name("ann")):
            return authenticate(token("ann"), url, name="bdt", version=version)

    with WorkspaceContext(workspace_name("ann")):
        registry.create_registered_model("bdt")
        for source in ("mlflow-artifacts:/x", "s3://service-mlflow/of/bob"):
            registry.create_model_version("bdt", source)
    assert user_of(read("1")) == "ann"
    assert "s3://service-mlflow/of/bob, which is not in MLflow" in refused(read("2"), 403)
    assert user_of(read("3")) == "ann", "MLflow reports that there is no such version"


def test_the_token_of_an_upload_is_verified_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the limits, the quota, and MLflow itself: in its middleware, and in Flask's thread."""
    verified: list[str | None] = []
    verify = auth.verifier().verify

    def counted(token: str, *, audience: str | None = None) -> Identity:
        verified.append(audience)
        return verify(token, audience=audience)

    monkeypatch.setattr(auth.verifier(), "verify", counted)
    quota = uploads.Quota(limit=100)
    users_of: list[str | None] = []

    async def mlflow(scope: Any, receive: Any, send: Any) -> None:
        sent = dict(scope["headers"])[b"authorization"].decode().removeprefix("Bearer ")
        for _ in range(2):
            users_of.append(user_of(await asyncio.to_thread(authenticate, sent, scope["path"])))
        while (await receive()).get("more_body"):
            pass
        await PlainTextResponse("stored")(scope, receive, send)

    limited = uploads.UploadQuota(mlflow, read=lambda _: quota, count=lambda _: 0)
    client = TestClient(server.Limits(limited))
    path = "/api/2.0/mlflow-artifacts/artifacts/1/run/artifacts/a.png"
    headers = {"Authorization": f"Bearer {token('ann')}"}
    assert client.put(path, content=b"x", headers=headers).text == "stored"
    assert (verified, users_of) == ([None], ["ann", "ann"])
    assert client.put(path, content=b"x" * 200, headers=headers).status_code == 413
    assert len(verified) == 2, "the next request is verified again"


def test_one_request_s_verification_is_not_another_s() -> None:
    with auth.verifying(f"Bearer {token('ann')}") as sender:
        assert sender.identity is not None
        assert user_of(authenticate(token("ann"))) == "ann"
        assert user_of(authenticate(token("bob"))) == "bob"
        assert "not a token" in refused(authenticate("no token"), 401)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    stream = io.StringIO()
    monkeypatch.setattr(auth.HANDLER, "stream", stream)
    return stream


def test_each_request_is_logged_once_with_its_user(log: io.StringIO) -> None:
    headers = {"Authorization": f"Bearer {token('ann')}"}
    with FLASK.test_request_context(ORDINARY, headers=headers):
        auth.authenticate()
        auth.authenticate()
    authenticate("no token")
    first, second = log.getvalue().splitlines()
    assert first == f"GET {ORDINARY} for ann"
    assert second.startswith(f"{ORDINARY} refused: ")


def test_a_path_with_a_line_break_forges_no_line_of_the_log(log: io.StringIO) -> None:
    authenticate(token("ann"), "/x%0AGET /y for bob")
    assert log.getvalue() == "GET /x\\nGET /y for bob for ann\n"
